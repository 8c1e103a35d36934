"""Fifty cases of the fuzzer, and the fuzzer itself on what it must find."""

import contextlib
import itertools
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from hypergen.errors import InputError, RunError
from scripts.bench.fuzz import __main__ as driver
from scripts.bench.fuzz import scene, state
from scripts.bench.fuzz.__main__ import FuzzConfig
from scripts.bench.fuzz.case import Case, Outcome, WrongFigureError, judge, python, wrong_figures
from scripts.bench.fuzz.worker import PARTS, try_cases

COUNTS = {"api": 30, "files": 10, "commands": 10}
SLOW = re.compile("hypergen (train|sweep|export|baseline)|trained|baseline|export")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    scene.build(folder)
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_no_case_is_a_fault(part, corpus, monkeypatch):
    if part != "api":  # tyro draws from it, but only where pytest is imported
        monkeypatch.delitem(state.SWITCHES, "Python's random state")
    tried = try_cases(
        part, 0, itertools.count(), corpus, wanted=lambda case: not SLOW.search(case.repeat)
    )
    with contextlib.closing(tried):
        found = [fault for _, faults in itertools.islice(tried, COUNTS[part]) for fault in faults]
    assert not found, "\n".join(f"{f.case}: {f.kind}: {f.detail}: {f.repeat}" for f in found)


def test_a_case_is_drawn_by_its_number_alone(corpus):
    def lines(numbers) -> list[str]:
        drawn = []

        def noted(case: Case) -> bool:
            drawn.append(case.repeat)
            return False  # it need not be tried

        assert not [*try_cases("commands", 3, numbers, corpus, wanted=noted)]
        return drawn

    assert lines([4, 5]) == lines([5, 4])[::-1]


WORKER = """
import json, os, signal, sys
log, part, seed, first, count = sys.argv[1:]
with open(log, "w", buffering=1) as lines:
    for number in range(int(first), int(first) + int(count)):
        lines.write(json.dumps({"number": number, "repeat": "it"}) + "\\n")
        if number in (1, 3):
            os.kill(os.getpid(), signal.SIGKILL)
        faults = [{"case": f"{part}:{seed}:{number}", "kind": "figure", "where": ""}]
        lines.write(json.dumps({"number": number, "faults": faults if number == 2 else []}) + "\\n")
"""
"""What tries cases in the place of the worker: it dies of 1 and 3, and finds a fault in 2."""


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_faults_are_collected_and_deaths_among_them(jobs, tmp_path, monkeypatch):
    def worker(corpus, log, chunk) -> list[str]:
        return [sys.executable, "-S", "-c", WORKER, *map(str, (log or os.devnull, *chunk))]

    monkeypatch.setattr(driver, "worker", worker)
    monkeypatch.setattr(driver, "CHUNK", 3)
    out = tmp_path / "new" / "fuzz.json"
    with pytest.raises(RunError, match="3 faults"):
        driver.main(FuzzConfig(cases=5, seed=7, part="files", jobs=jobs, out=out))
    found = json.loads(out.read_text())
    told = [(each["case"], each["kind"]) for each in found.pop("faults")]
    assert told == [("files:7:1", "death"), ("files:7:2", "figure"), ("files:7:3", "death")]
    assert found == {"cases": 5, "seed": 7}


def test_a_worker_that_does_not_begin_is_a_death(tmp_path, monkeypatch):
    def worker(corpus, log, chunk) -> list[str]:
        return [sys.executable, "-S", "-c", f"raise SystemExit({3 * chunk[-1]})"]

    monkeypatch.setattr(driver, "worker", worker)
    with pytest.raises(RunError, match="3 faults"):
        driver.main(FuzzConfig(cases=9, out=tmp_path / "fuzz.json"))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (FuzzConfig(cases=0), "at least 1"),
        (FuzzConfig(jobs=0), "at least 1"),
        (FuzzConfig(part="x"), "known: api"),
        (FuzzConfig(only="x:0:1"), "known: api"),
        (FuzzConfig(only="api:0"), "PART:SEED:NUMBER"),
        (FuzzConfig(only="api:a:b"), "PART:SEED:NUMBER"),
    ],
)
def test_what_cannot_be_tried_is_told(config, reason):
    with pytest.raises(InputError, match=reason):
        driver.main(config)


def action(line: str) -> Case:
    names = {"torch": torch, "Path": Path, "WrongFigureError": WrongFigureError}
    return Case("test", line, lambda: python(line, names))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("raise WrongFigureError('sra')", "figure"),
        ("torch.rand(1)", "state"),
        ("torch.set_default_dtype(torch.float64)", "state"),
        ("Path('.lock').touch()", "leftover"),
        ("Path('.x.3.part').touch()", "leftover"),
    ],
)
def test_what_must_not_happen_is_found(line, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [fault.kind for fault in judge(action(line))] == [kind]
    assert torch.get_default_dtype() == torch.float32  # what was moved is put back


@pytest.mark.parametrize(
    ("outcome", "kinds"),
    [
        (Outcome(0, "done", ""), []),
        (Outcome(2, "", "hypergen: no file x\n"), []),
        (Outcome(2, "", ""), ["message"]),
        (Outcome(error=KeyError("x")), ["traceback"]),
        (Outcome(error=InputError("no file x")), []),
        (Outcome(error=KeyboardInterrupt()), []),
        (Outcome(3, "", "hypergen: x"), ["status"]),
        (
            Outcome(1, "", "Traceback (most recent call last)\nKeyError: 3"),
            ["traceback", "message"],
        ),
        (Outcome(2, "", "hypergen: 'NoneType' object has no attribute 'x'"), ["message"]),
    ],
)
def test_how_a_command_ends(outcome, kinds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [fault.kind for fault in judge(Case("test", "", lambda: outcome))] == kinds


def test_a_refused_command_must_change_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused() -> Outcome:
        Path("new").mkdir()
        return Outcome(2, "", "hypergen: no")

    assert [fault.kind for fault in judge(Case("test", "", refused))] == ["written"]


def test_figures_that_cannot_be():
    row = {"accuracy": 0.9, "pgd": 0.5, "sra": 0.4, "interval": [0.3, 0.6]}
    assert not wrong_figures({"networks": [row], "summary": {"sra": {"mean": 0.4}}})
    assert wrong_figures({"networks": [row | {"sra": 0.6}]})
    assert wrong_figures([row | {"accuracy": 1.2}])
    assert wrong_figures({"summary": {"sra": {"mean": float("nan")}}})


def test_what_waits_for_others_too_long_is_interrupted():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), state.interrupted_after(0.05):
        time.sleep(60)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == signal.getitimer(signal.ITIMER_PROF) == (0, 0)
