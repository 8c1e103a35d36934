"""What a command does when it is asked to end. A signal that was ignored from the start stays so.

While modules are imported nothing is lost, and the process ends at once. Once the work has begun,
every signal takes the way of Ctrl-C: KeyboardInterrupt, and whoever catches it saves.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from hypergen.errors import is_out_of_memory
from hypergen.runtime.signals import COPY_SECONDS, ENDING, Interrupter

AGAIN_SECONDS = COPY_SECONDS + 0.05
"""How soon a signal that was lost comes again: late enough to be no copy of the first."""
_OF_CLEARING_UP = RuntimeError, AssertionError, FileNotFoundError
"""What PyTorch's contexts and Optuna's locks raise where a signal came in their middle."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended the work of a command.

    Attributes:
        number: of the signal.
    """

    def __init__(self, text: str, number: int):
        super().__init__(text)
        self.number = number


def exit_on_signals() -> None:
    """Lets signals end this process at once and in silence, with status 128 + signal.

    Raising an exception would not do: modules that are half imported make others of it.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, signals raise KeyboardInterrupt, which leaves as an `Interrupted` of the same text.

    Only the main thread may handle signals; elsewhere, and where a signal means something special
    already, nothing changes.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler, _exit)
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in ENDING if in_main}
    interrupter = Interrupter()
    changed = {number: handler for number, handler in before.items() if handler in usual}
    try:
        for number in changed:
            signal.signal(number, interrupter)
        with _repeated(interrupter):
            yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(str(interrupt), interrupter.received or signal.SIGINT) from None
    except Exception as error:
        if interrupter.received is None or not _hides_interrupt(error):
            raise
        text = f"; clearing up failed: {error}"
        raise Interrupted(text, interrupter.received) from None
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def _hides_interrupt(error: BaseException | None) -> bool:
    """Whether the error, or one that it was made of, took the place of a KeyboardInterrupt.

    A signal in the middle of what begins or ends something, such as PyTorch's context of a device
    or Optuna's lock, has it fail where it clears up: what is to be taken away is not there. Other
    errors after a signal, as of a disk that is full, are the user's to know.
    """
    while error is not None:
        if isinstance(error.__context__, KeyboardInterrupt):
            return type(error) in _OF_CLEARING_UP and not is_out_of_memory(error)
        error = error.__context__
    return False


@contextlib.contextmanager
def _repeated(interrupter: Interrupter) -> Iterator[None]:
    """Within, a signal whose KeyboardInterrupt Python throws away comes again, until it is heard.

    Nobody hears of exceptions in what Python calls by itself, between any two lines of a program:
    `__del__`, and callbacks of weak references.
    """
    before, timers = sys.unraisablehook, list[threading.Timer]()

    def again() -> None:
        os.kill(os.getpid(), interrupter.received or signal.SIGINT)

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            return before(lost)
        # Not here, where it would be lost as well.
        timers.append(threading.Timer(AGAIN_SECONDS, again))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def _exit(number: int, frame: object) -> None:
    os._exit(128 + number)
