import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial, TrialState

from hypergen.cli import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.lock import lock
from hypergen.report import ReportConfig
from hypergen.sweep import Sweep, SweepConfig, parse_vary

GOOD = [
    ("beta=0:1", "beta", 0.25, "0.25"),
    ("beta=0.2,0.8", "beta", "0.8", "0.8"),
    ("beta=0:0.5,0.5:1", "beta", None, None),
    ("learning-rate=1e-4:1e-2:log", "learning_rate", 1e-3, 1e-3),
    ("learning_rate=1e-4,1e-3", "learning_rate", 1e-4, 1e-4),
    ("epsilon=0:0.3", "epsilon", 0.1, 0.1),
    ("steps=10:20", "steps", 15, 15),
    ("steps=10:1000:log", "steps", 15, 15),
    ("measure-every=1,4", "measure_every", 4, 4),
    ("objective=value,direct", "objective", "value", "value"),
    ("base=standard, fbf", "base", "fbf", "fbf"),
]
BAD = [
    ("bta=0:1", 'unknown setting "bta" .did you mean "beta"'),
    ("beta", "expected NAME=LOW:HIGH"),
    ("beta=", "expected NAME=LOW:HIGH"),
    ("=0:1", "unknown setting"),
    ("beta=0:2", r"in \[0,1\]"),
    ("beta=nan:1", "LOW below HIGH"),
    ("beta=1:0", "LOW below HIGH"),
    ("beta=0.5:0.5", "LOW below HIGH"),
    ("beta=0:1:log", "LOW below HIGH"),
    ("beta=0.1:1:lin", "LOW below HIGH"),
    ("beta=0.1:1:log:log", "LOW below HIGH"),
    ("learning-rate=a:b", "expected numbers"),
    ("learning-rate=0:1", "above 0"),
    ("learning-rate=1e-3:inf", "above 0"),
    ("epsilon=-1:1", "epsilon >= 0"),
    ("epsilon=0:inf", "finite epsilon"),
    ("steps=1.5:3", "expected numbers"),
    ("steps=a,b", "expected numbers"),
    ("steps=0:3", "at least 1"),
    ("objective=value,dirct", 'did you mean "direct"'),
    ("objective=value:direct", "NAME=A,B,C"),
]


@pytest.mark.parametrize(("text", "field", "chosen", "expected"), GOOD)
def test_what_can_be_varied(text, field, chosen, expected):
    if chosen is None:
        with pytest.raises(ValueError, match="NAME=LOW:HIGH"):
            parse_vary(text, TrainConfig())
        return
    name, suggest = parse_vary(text, TrainConfig())
    assert name == field
    value = suggest(FixedTrial({field: chosen}))
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_cannot_be_varied(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_vary(text, TrainConfig())
    assert "\n" not in str(caught.value)


# At this epsilon nothing is robust, so that watching a run takes no time.
TINY = (
    "--target mlp --epsilon 0.5 --steps 60 --population 2 --batch-size 8 "
    "--measure-every 50 --samples 2 --sra-samples 0 --images 20"
)


def command(folder: Path, trials: int = 3) -> list[str]:
    options = f"--trials {trials} --workers 2 --vary beta=0:1 --device cpu {TINY}"
    return ["sweep", "--out", str(folder), *options.split()]


def started(folder: Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "hypergen", *command(folder)]
    with (folder.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(program, stdout=log, stderr=log)


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(after_name[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def study(folder: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=folder.name, storage=storage)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_a_sweep_survives_the_death_of_its_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hypergen.sweep.GRACE_SECONDS", 60.0)  # others may be at work here
    folder = tmp_path / "sweep"

    sweep = started(folder)
    wait_for(lambda: len(list(folder.glob("trial-*/metrics.jsonl"))) == 2)
    os.kill(children(sweep.pid)[0], signal.SIGKILL)
    wait_for(lambda: len(list(folder.glob("trial-*/results.json"))) >= 1)
    sweep.kill()
    sweep.wait()

    assert main(command(folder)) == 0
    out, said = capsys.readouterr()
    trials = study(folder).get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert len({trial.params["beta"] for trial in trials}) == 3
    runs = sorted(path.name for path in folder.glob("trial-*"))
    assert runs == [f"trial-000{i}" for i in range(3)]
    for trial, run in zip(trials, runs, strict=True):
        config = TrainConfig.load(folder / run / "config.json")
        assert float(config.beta) == pytest.approx(trial.params["beta"], abs=1e-6)
        summary = json.loads((folder / run / "results.json").read_text())["summary"]["sample"]
        assert trial.values == [summary["accuracy"]["mean"], summary["robustness"]["mean"]]
        lines = (folder / run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(60))

    assert (folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((folder / "results.json").read_text())["trials"]
    assert len(rows) == 3 and "front of 3 trials" in out
    for row in rows:
        beaten = any(
            other["accuracy"] >= row["accuracy"]
            and other["robustness"] >= row["robustness"]
            and (other["accuracy"], other["robustness"]) != (row["accuracy"], row["robustness"])
            for other in rows
        )
        assert row["kind"] == ("dominated" if beaten else "front")
        assert (row["run"] in out) == (row["kind"] == "front")

    # The same command again has nothing left to do, and another sweep may not have the folder.
    journal = (folder / "optuna.journal").read_bytes()
    assert main(command(folder)) == 0
    assert len(study(folder).get_trials()) == 3 and len(list(folder.glob("trial-*"))) == 3
    assert main([*command(folder), "--latent-size", "3"]) == 2
    assert "holds a sweep with other settings" in capsys.readouterr().err
    best = next(row["run"] for row in rows if row["kind"] == "front")
    assert main(["sample", best, "--count", "1", "--images", "5"]) == 0
    assert len(study(folder).get_trials()) == 3
    assert (folder / "optuna.journal").read_bytes().startswith(journal)


def opened(folder: Path, config: TrainConfig | None = None, storage: str | None = None) -> Sweep:
    options = SweepConfig(storage=storage)
    return Sweep(config or TrainConfig(target="mlp"), folder, options, "cpu", None, ReportConfig())


def test_a_continued_sweep_does_not_draw_the_same_again(tmp_path):
    first = opened(tmp_path / "sweep")
    drawn = [first.ask().params["beta"] for _ in range(2)]
    for trial in first.study.get_trials():
        first.study.tell(trial.number, [0.5, 0.5])
    os.close(first.lock)
    again = opened(tmp_path / "sweep")
    drawn += [again.ask().params["beta"] for _ in range(2)]
    assert len(set(drawn)) == 4
    os.close(again.lock)


def test_a_storage_does_not_mix_sweeps_of_the_same_name(tmp_path):
    shared = f"sqlite:///{tmp_path}/shared.db"
    os.close(opened(tmp_path / "one" / "sweep", storage=shared).lock)
    os.close(opened(tmp_path / "one" / "sweep", storage=shared).lock)
    other = TrainConfig(target="mlp", epsilon=0.2)
    with pytest.raises(InputError, match="holds a study 'sweep' with other settings"):
        opened(tmp_path / "two" / "sweep", other, shared)
    assert not (tmp_path / "two" / "sweep" / "sweep.json").exists()
    os.close(opened(tmp_path / "two" / "another", other, shared).lock)


def test_a_study_that_is_no_sweep_is_left_alone(tmp_path):
    shared = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="front", storage=shared, direction="minimize")
    tried = optuna.create_study(
        study_name="both", storage=shared, directions=["maximize", "maximize"]
    )
    tried.add_trial(optuna.create_trial(values=[0.5, 0.5]))
    for name in ("front", "both"):
        with pytest.raises(InputError, match=f"holds a study '{name}' with other settings"):
            opened(tmp_path / name, storage=shared)
        assert optuna.load_study(study_name=name, storage=shared).user_attrs == {}
        assert not (tmp_path / name / "sweep.json").exists()


def test_sweeps_that_share_a_storage_draw_and_tell_what_the_other_does_not(tmp_path, monkeypatch):
    shared = f"sqlite:///{tmp_path}/shared.db"
    # Both are opened before either has asked for a trial.
    sweeps = [opened(tmp_path / place / "sweep", storage=shared) for place in ("one", "two")]
    trials = [sweep.ask() for sweep in sweeps for _ in range(2)]
    assert len({trial.params["beta"] for trial in trials}) == 4
    for trial in trials:
        sweeps[0].study.tell(trial, [0.5, 0.5])

    def told(sweep: Sweep) -> list[str]:
        said = sweep.report()
        rows = json.loads((sweep.folder / "results.json").read_text())["trials"]
        assert len(rows) == 4 and all(row["run"] in said for row in rows)
        return sorted(row["run"] for row in rows)

    runs = sorted(str(run) for run in tmp_path.glob("*/sweep/trial-*"))
    assert told(sweeps[0]) == told(sweeps[1]) == runs
    here = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert told(sweeps[0]) == [*runs[:2], *(f"{here}:{run}" for run in runs[2:])]
    for sweep in sweeps:
        os.close(sweep.lock)


def test_unfinished_trials_of_a_dead_sweep_are_taken_up(tmp_path):
    first = opened(tmp_path / "sweep")
    trial = first.ask()
    os.close(first.lock)
    again = opened(tmp_path / "sweep")
    (taken,) = again.abandoned()
    assert taken.number == trial.number and taken.params == trial.params
    os.close(again.lock)


def test_two_sweeps_do_not_work_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("hypergen.sweep.GRACE_SECONDS", 0.0)
    first = opened(tmp_path / "sweep")
    with pytest.raises(ValueError, match="another hypergen is at work"):
        opened(tmp_path / "sweep")
    os.close(first.lock)


def test_of_two_sweeps_begun_together_the_second_leaves_nothing(tmp_path, monkeypatch):
    def lock_after_another(*args):
        monkeypatch.setattr("hypergen.sweep.lock", lock)
        os.close(opened(tmp_path / "sweep").lock)
        return lock(*args)

    monkeypatch.setattr("hypergen.sweep.lock", lock_after_another)
    with pytest.raises(InputError, match="holds a sweep with other settings"):
        opened(tmp_path / "sweep", TrainConfig(target="mlp", epsilon=0.2))
    os.close(opened(tmp_path / "sweep").lock)


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="exists and is not a sweep"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
