"""Runs a trainer to its last step, saving on the way, whatever interrupts it."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypergen.training.trainer import Trainer

CHECKPOINT_SECONDS = 20.0


def train(
    trainer: Trainer,
    save: Callable[[dict[str, Any]], object],
    on_step: Callable[[int, dict[str, float]], object] = lambda step, metrics: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Takes the steps that are left; loses at most those since the last checkpoint.

    Args:
        save: is given the whole state now and then, and in the end.
        on_step: is called after each step, with its number and what was measured in it.
        checkpoint_seconds: time between checkpoints.

    Raises:
        RunError: the training diverges.
        KeyboardInterrupt: it was interrupted, and has saved.
    """
    last_saved = time.monotonic()
    with deferred_interrupt() as interrupted:
        while trainer.step < trainer.config.optimisation.steps and not interrupted.is_set():
            step = trainer.step
            on_step(step, trainer.advance())
            if time.monotonic() - last_saved > checkpoint_seconds:
                save(trainer.state_dict())
                last_saved = time.monotonic()
        save(trainer.state_dict())
    if interrupted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Within, the first Ctrl-C only sets the event that is given; a second one interrupts at once.

    Only the main thread may choose what Ctrl-C does; elsewhere, and where Ctrl-C means something
    special already, nothing changes.
    """
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:
        yield asked
        return

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
