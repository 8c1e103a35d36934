"""How far long work is: one bar for a whole command, whatever its phases.

A command shows a bar and splits it into phases, with what each is estimated to cost:

    with ProgressBar("train") as bar:
        phases = bar.split({"training": 300.0, "baselines": 120.0, "report": 60.0})
        phases["training"].start(3000, done=1000)  # in units of its own, such as steps
        phases["training"].advance(1, "accuracy 93 %")

Library functions take a `Progress`, by default `SILENT`, and may split it further.
"""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Mapping
from typing import Self

LINE_SECONDS = 15.0
"""Time between two lines where there is no terminal to show a bar on."""
UNSURE_SHARE, UNSURE_SECONDS = 0.01, 60.0
"""As long as less of the whole is done, and that in less time, the time left is not known."""


class Progress:
    """A piece of work, told to nobody: what shows progress overrides all of this."""

    def split(self, costs: Mapping[str, float]) -> "dict[str, Progress]":
        """Returns the phases of this piece of work, by their names.

        costs: estimated for each whole phase, in seconds or any one unit; at least one above 0.
        """
        return dict.fromkeys(costs, self)

    def start(self, total: int, done: int = 0) -> None:
        """The work has `total` units; `done` of them were done before, in no time."""

    def advance(self, count: int = 1, metrics: str = "") -> None:
        """`count` more units are done; `metrics` are the numbers that matter now."""

    def finish(self) -> None:
        """The work is over; units that are not done by now will not be."""


SILENT = Progress()
"""Shows nothing."""
_UNHEARD = contextlib.suppress(OSError, ValueError)
"""What cannot be shown, since nobody listens any more, costs nothing."""


class _Phase(Progress):
    """A share of the work of its parent; several threads may advance it."""

    def __init__(self, label: str, parent: "_Phase | None" = None, share: float = 1.0):
        self.label, self._parent, self._share = label, parent, share
        self._lock: threading.RLock = parent._lock if parent else threading.RLock()
        self._total, self._count = 0, 0
        self._done = 0.0  # in [0,1], of this phase

    def split(self, costs: Mapping[str, float]) -> dict[str, Progress]:
        whole = sum(costs.values())
        return {name: _Phase(name, self, cost / whole) for name, cost in costs.items()}

    def start(self, total: int, done: int = 0) -> None:
        with self._lock:
            self._total, self._count = total, done
            self._move(done / total if total else 1.0, spent=False)

    def advance(self, count: int = 1, metrics: str = "") -> None:
        with self._lock:
            self._count += count
            self._move(count / self._total if self._total else 0.0, spent=True)
            self._show(f"{self.label}: {self._count}/{self._total}", metrics)

    def finish(self) -> None:
        with self._lock:
            self._move(1.0, spent=False)

    def _move(self, share: float, spent: bool) -> None:
        """`share` more of this phase is done; `spent`: in time that tells how long the rest takes.

        A phase never gets beyond its end.
        """
        share = min(share, 1.0 - self._done)
        self._done += share
        if self._parent is not None:
            self._parent._move(share * self._share, spent)

    def _show(self, phase: str, metrics: str) -> None:
        if self._parent is not None:
            self._parent._show(phase, metrics)


class ProgressBar(_Phase):
    """The progress of a whole command on standard error, with the time left of all of it.

    A bar on a terminal, elsewhere a plain line now and then. The phase that moved last is named.
    The time left supposes that the costs of phases stand to each other as they were estimated to.
    """

    def __init__(self, label: str):
        super().__init__(label)
        self._spent = 0.0
        self._started = self._shown = time.monotonic()
        self._bar = None
        with _UNHEARD:
            if sys.stderr is not None and sys.stderr.isatty():
                from tqdm import tqdm  # here, for most commands need none

                layout = "{desc} |{bar}| {percentage:.0f} %{postfix}"
                self._bar = tqdm(total=1.0, leave=False, dynamic_ncols=True, bar_format=layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with _UNHEARD:
                self._bar.close()

    @property
    def done(self) -> float:
        """The share of the whole that is done, in [0,1]."""
        return self._done

    @property
    def seconds_left(self) -> float:
        """How long the rest takes, going by the time spent so far; infinite when nothing is known.

        What was done before, or was left out, took no time and tells nothing.
        """
        seconds = time.monotonic() - self._started
        unsure = self._spent < UNSURE_SHARE and seconds < UNSURE_SECONDS  # imports, first calls
        if self._spent == 0 or unsure:
            return math.inf
        return seconds * max(0.0, 1 - self._done) / self._spent

    def _move(self, share: float, spent: bool) -> None:
        before = self._done
        super()._move(share, spent)
        self._spent += self._done - before if spent else 0.0

    def _show(self, phase: str, metrics: str) -> None:
        now = time.monotonic()
        with _UNHEARD:
            if self._bar is not None:
                self._bar.set_description_str(phase, refresh=False)
                left = f", {duration(self.seconds_left)} left, {metrics}".removesuffix(", ")
                self._bar.set_postfix_str(left.removeprefix(", "), refresh=False)
                self._bar.update(self._done - self._bar.n)
            elif now - self._shown >= LINE_SECONDS and sys.stderr is not None:
                self._shown = now
                whole = f"{100 * self._done:.0f} % of {self.label}"
                line = f"{phase}, {whole}, {duration(self.seconds_left)} left, {metrics}"
                print(line.removesuffix(", "), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns a length of time in words, such as "45 s", "12 min" or "3 h 5 min"."""
    if not math.isfinite(seconds):
        return "unknown time"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
