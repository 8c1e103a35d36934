"""What a command does when it is asked to end. A signal that was ignored from the start stays so.

While modules are imported nothing is lost, and the process ends at once. Once the work has begun,
every signal takes the way of Ctrl-C: KeyboardInterrupt, and whoever catches it saves.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from hypergen.runtime.signals import ENDING, Interrupter


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
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(str(interrupt), interrupter.received or signal.SIGINT) from None
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def _exit(number: int, frame: object) -> None:
    os._exit(128 + number)
