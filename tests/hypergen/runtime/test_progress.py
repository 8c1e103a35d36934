import io
import math
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypergen.runtime import progress
from hypergen.runtime.progress import SILENT, ProgressBar, duration


class Terminal:
    """Collects what a terminal would be given."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


class Closed(Terminal):
    """One that nobody listens to any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds since the start, to be set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_phases_make_up_the_whole_by_their_costs():
    with ProgressBar("train") as bar:
        phases = bar.split({"training": 300.0, "report": 100.0})
        training, report = phases["training"], phases["report"]
        training.start(3000)
        training.advance(1500)
        assert bar.done == pytest.approx(0.375)
        parts = report.split({"pgd": 1.0, "sra": 3.0})
        parts["sra"].start(10)
        parts["sra"].advance(5)
        assert bar.done == pytest.approx(0.375 + 0.25 * 0.75 * 0.5)
        training.finish()
        report.finish()
        assert bar.done == pytest.approx(1.0)
        training.advance(100)  # more than there was to do
        assert bar.done == pytest.approx(1.0)


def test_of_the_first_moments_no_time_left_is_told(clock):
    bar = ProgressBar("train")
    bar.start(1000)
    for seconds, count, left in (
        (10, 4, math.inf),
        (20, 5, math.inf),
        (30, 1, 2970),
        (40, 1, 3596),
    ):
        clock[0] = seconds
        bar.advance(count)
        assert bar.seconds_left == pytest.approx(left, rel=1e-3)
    slow = ProgressBar("train")
    slow.start(10_000)
    clock[0] = 40 + 59
    slow.advance(1)
    assert slow.seconds_left == math.inf
    clock[0] = 40 + 61
    assert slow.seconds_left == pytest.approx(61 * 9_999)


def test_the_time_left_is_that_of_the_whole(clock):
    bar = ProgressBar("train")
    phases = bar.split({"a": 1.0, "b": 3.0})
    assert bar.seconds_left == math.inf
    phases["a"].start(10)
    phases["a"].advance(5)
    clock[0] = 8.0  # an eighth of the whole
    assert bar.seconds_left == pytest.approx(56)
    phases["a"].finish()  # the rest of it is left out, and took no time
    assert bar.seconds_left == pytest.approx(48)


def test_what_was_done_before_took_no_time(clock):
    bar = ProgressBar("train")
    work = bar.split({"steps": 1.0})["steps"]
    work.start(100, done=80)
    assert bar.done == pytest.approx(0.8) and bar.seconds_left == math.inf
    work.advance(10)
    clock[0] = 5.0
    assert bar.seconds_left == pytest.approx(5)


def test_work_without_units_is_done_at_once():
    bar = ProgressBar("train")
    phases = bar.split({"none": 1.0, "some": 1.0})
    phases["none"].start(0)
    phases["none"].advance()
    assert bar.done == pytest.approx(0.5)


class Slow(int):
    """A number that takes its time to be added, so that another thread gets in between."""

    def __radd__(self, other: int) -> int:
        time.sleep(0.01)
        return other + int(self)


def test_threads_that_advance_it_lose_nothing():
    bar = ProgressBar("threads")
    phases = bar.split({"a": 1.0, "b": 1.0})
    for phase in phases.values():
        phase.start(16)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: phases[name].advance(Slow(1)), 12 * ["a", "b"]))
    assert bar.done == pytest.approx(24 / 32)


def test_lines_tell_phase_whole_and_time_left(clock, capsys, monkeypatch):
    with ProgressBar("train") as bar:
        phases = bar.split({"training": 1.0, "report": 1.0})
        phases["training"].start(100)
        phases["training"].advance(20, "accuracy 93 %")
        assert capsys.readouterr().err == ""  # too early
        clock[0] = progress.LINE_SECONDS
        phases["training"].advance(5, "accuracy 93 %")
        phases["training"].advance(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "training: 25/100, 12 % of train, 105 s left, accuracy 93 %\n".replace(
        "105 s", duration(15 / 0.125 * 0.875)
    )


def test_a_terminal_gets_one_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with ProgressBar("train") as bar:
        phases = bar.split({"training": 1.0, "report": 1.0})
        for name, phase in phases.items():
            phase.start(4)
            for _ in range(4):
                time.sleep(0.15)
                phase.advance(1, f"of {name}")
    text = terminal.text
    assert re.search(r"training: \d/4 \|.*\| \d+ %, \d+ s left, of training", text)
    assert "report: 4/4" in text and "of report" in text and "\n" not in text
    assert text.rstrip().endswith("\r") or text.endswith("\r")  # the bar is removed


def test_who_does_not_listen_costs_nothing(monkeypatch, clock):
    gone = io.StringIO()
    gone.close()
    for stream in (Closed(), None, gone):
        monkeypatch.setattr(sys, "stderr", stream)
        with ProgressBar("train") as bar:
            work = bar.split({"steps": 1.0})["steps"]
            work.start(3)
            for second in range(3):
                clock[0] = 20.0 * second
                work.advance()
            assert bar.done == pytest.approx(1.0)


def test_silence(capfd):
    before = threading.active_count()
    phases = SILENT.split({"a": 1.0, "b": 2.0})
    assert list(phases) == ["a", "b"]
    for phase in phases.values():
        phase.start(3)
        phase.advance(1, "metrics")
        phase.finish()
    assert capfd.readouterr() == ("", "") and threading.active_count() == before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (7260, "2 h 1 min"),
        (math.inf, "unknown time"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
