"""The signals that ask a command to end: Ctrl-C, SIGTERM and SIGHUP all raise KeyboardInterrupt."""

import signal
import time

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a process to end and lets it do so in its own way; not every system has all."""
COPY_SECONDS = 0.2
"""How soon after the first a signal is the same request again. Service managers and batch systems
send theirs to every process of a job, whose sweep then passes its own on to its trials."""


class Interrupter:
    """A signal handler that raises KeyboardInterrupt, as Python's own does, and knows the signal.

    Attributes:
        received: the first signal, None before there is one.
    """

    def __init__(self):
        self.received: int | None = None
        self._time = 0.0

    def __call__(self, number: int, frame: object) -> None:
        if self.note(number):
            raise KeyboardInterrupt

    def note(self, number: int) -> bool:
        """Remembers a signal; whether it is a request of its own, no copy of the first one.

        A second Ctrl-C is never a copy: terminals send each once.
        """
        now = time.monotonic()
        if self.received is None:
            self.received, self._time = number, now
            return True
        return self.received == signal.SIGINT or now - self._time >= COPY_SECONDS
