"""Runs a trainer to its last step, saving on the way, whatever interrupts it."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.runtime import crew
from hypergen.runtime.exchange import anyone, handed_out
from hypergen.runtime.signals import ENDING, Interrupter
from hypergen.training.trainer import Trainer

CHECKPOINT_SECONDS = 20.0


def train(
    trainer: Trainer,
    save: Callable[[dict[str, Any]], object],
    on_step: Callable[[int, dict[str, float]], object] = lambda step, metrics: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Takes the steps that are left; loses at most those since the last checkpoint.

    Ranks that wait for work take them too, each with its share of the networks.

    Args:
        save: is given the whole state now and then, and in the end.
        on_step: is called after each step, with its number and what was measured in it.
        checkpoint_seconds: time between checkpoints.

    Raises:
        RunError: the training diverges.
        KeyboardInterrupt: it was interrupted, and has saved.
    """
    with crew.called(follow, trainer.config):
        handed_out(trainer.state_dict())
        _take_steps(trainer, save, on_step, checkpoint_seconds)


def follow(dataset: Dataset, config: TrainConfig) -> None:
    """Takes the same steps as the first rank, from where it stands; writes nothing."""
    trainer = Trainer(config, dataset, dataset.device, pretraining_steps=0)
    trainer.load_state_dict(handed_out(None))
    _take_steps(trainer, lambda state: None, lambda step, metrics: None, math.inf)


def _take_steps(
    trainer: Trainer,
    save: Callable[[dict[str, Any]], object],
    on_step: Callable[[int, dict[str, float]], object],
    checkpoint_seconds: float,
) -> None:
    last_saved = time.monotonic()
    with deferred_interrupt() as interrupted:
        stops = False
        while trainer.step < trainer.config.optimisation.length and not stops:
            step = trainer.step
            with trainer.cost.timed():
                metrics = trainer.advance()
            on_step(step, metrics)
            if time.monotonic() - last_saved > checkpoint_seconds:
                save(trainer.state_dict())
                last_saved = time.monotonic()
            stops = anyone(interrupted.is_set())
        save(trainer.state_dict())
    if stops or interrupted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Within, the first Ctrl-C only sets the event that is given; a second one interrupts at once.

    In a command so it is with all signals that ask it to end. Only the main thread may choose what
    signals do; elsewhere, and where one means something special already, nothing changes.
    """
    asked = threading.Event()
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            handler = signal.getsignal(number)
            ctrl_c = number == signal.SIGINT and handler is signal.default_int_handler
            if ctrl_c or isinstance(handler, Interrupter):
                handlers[number] = handler

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        restore()
        if isinstance(handlers[number], Interrupter):
            handlers[number].note(number)
        asked.set()

    try:
        for number in handlers:
            signal.signal(number, ask)
        yield asked
    finally:
        restore()
