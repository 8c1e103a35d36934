"""Sweeps: their folders, their storages, and what they find."""

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
from optuna.trial import TrialState

from hypergen.cli.main import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments import sweep as module
from hypergen.experiments.run_folder import ReportConfig, RunSettings, fingerprint
from hypergen.experiments.sweep import Sweep, SweepConfig, run_sweep
from hypergen.experiments.trials import Machine, Trials
from hypergen.runtime.progress import SILENT
from hypergen.storage.lock import lock

MACHINE = Machine("cpu", None)
CONFIG = TrainConfig.of(target="mlp")


@pytest.fixture
def opened(few) -> Callable[..., Sweep]:
    def open_sweep(folder: Path, config: TrainConfig = CONFIG, storage: str | None = None) -> Sweep:
        return Sweep(config, few, folder, SweepConfig(storage=storage), ReportConfig())

    return open_sweep


def trials(sweep: Sweep) -> Trials:
    return Trials(sweep.study, sweep.folder, sweep.owner, MACHINE, workers=1)


def ask(sweep: Sweep) -> optuna.Trial:
    return trials(sweep).ask(sweep.write_settings)


def test_a_trial_is_an_ordinary_run_with_chosen_settings(opened, few, tmp_path):
    sweep = opened(tmp_path / "sweep")
    trial = ask(sweep)
    begun = RunSettings.load(trials(sweep).run_folder(trial))
    assert float(begun.config.objective.beta) == pytest.approx(trial.params["beta"], abs=1e-6)
    assert begun.config == CONFIG.replace(beta=begun.config.objective.beta)
    assert begun.info == few.info and not begun.baselines and begun.report == ReportConfig()
    assert begun.images == fingerprint(few)
    sweep.close()


def test_a_continued_sweep_does_not_draw_the_same_again(opened, tmp_path):
    first = opened(tmp_path / "sweep")
    drawn = [ask(first).params["beta"] for _ in range(2)]
    for trial in first.study.get_trials():
        first.study.tell(trial.number, [0.5, 0.5])
    first.close()
    again = opened(tmp_path / "sweep")
    drawn += [ask(again).params["beta"] for _ in range(2)]
    assert len(set(drawn)) == 4
    again.close()


def test_a_closed_sweep_leaves_no_lock(opened, tmp_path):
    opened(tmp_path / "sweep").close()
    assert {path.name for path in (tmp_path / "sweep").glob(".*")} == set()


def test_a_storage_does_not_mix_sweeps_of_the_same_name(opened, tmp_path):
    shared = f"sqlite:///{tmp_path}/shared.db"
    opened(tmp_path / "one" / "sweep", storage=shared).close()
    opened(tmp_path / "one" / "sweep", storage=shared).close()
    other = CONFIG.replace(epsilon=0.2)
    with pytest.raises(InputError, match="holds a study 'sweep' with other settings"):
        opened(tmp_path / "two" / "sweep", other, shared)
    assert not (tmp_path / "two" / "sweep" / "sweep.json").exists()
    opened(tmp_path / "two" / "another", other, shared).close()


def test_a_storage_that_cannot_be_is_told_in_one_line(opened, tmp_path):
    with pytest.raises(InputError, match="`storage` nothing://x") as told:
        opened(tmp_path / "sweep", storage="nothing://x")
    assert "\n" not in str(told.value) and not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("directions", "used"),
    [(["minimize"], False), (["minimize", "minimize"], False), (["maximize"] * 2, True)],
)
def test_a_study_that_is_no_sweep_is_left_alone(directions, used, opened, tmp_path):
    shared = f"sqlite:///{tmp_path}/shared.db"
    study = optuna.create_study(study_name="sweep", storage=shared, directions=directions)
    if used:
        study.add_trial(optuna.create_trial(values=[0.5, 0.5]))
    with pytest.raises(InputError, match="holds a study 'sweep' with other settings"):
        opened(tmp_path / "sweep", storage=shared)
    assert optuna.load_study(study_name="sweep", storage=shared).user_attrs == {}
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_sweeps_that_share_a_storage_draw_and_tell_what_the_other_does_not(
    opened, tmp_path, monkeypatch
):
    shared = f"sqlite:///{tmp_path}/shared.db"
    # Both are opened before either has asked for a trial.
    sweeps = [opened(tmp_path / place / "sweep", storage=shared) for place in ("one", "two")]
    asked = [ask(sweep) for sweep in sweeps for _ in range(2)]
    assert len({trial.params["beta"] for trial in asked}) == 4
    for trial in asked:
        sweeps[0].study.tell(trial, [0.5, 0.5])

    def told(sweep: Sweep) -> list[str]:
        result = sweep.report()
        rows = json.loads((sweep.folder / "results.json").read_text())["trials"]
        assert len(rows) == 4 and rows == json.loads(json.dumps(result))["trials"]
        return sorted(row["run"] for row in rows)

    runs = sorted(str(run) for run in tmp_path.glob("*/sweep/trial-*"))
    assert told(sweeps[0]) == told(sweeps[1]) == runs
    here = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert told(sweeps[0]) == [*runs[:2], *(f"{here}:{run}" for run in runs[2:])]
    for sweep in sweeps:
        sweep.close()


def test_the_front_is_what_no_trial_beats(opened, tmp_path):
    sweep = opened(tmp_path / "sweep")
    scores = [(0.9, 0.1), (0.5, 0.6), (0.4, 0.6), (0.8, 0.1), (0.7, 0.4), (0.7, 0.4)]
    for values in scores:
        sweep.study.tell(ask(sweep), values)
    rows = sweep.report()["trials"]
    assert [row["robustness"] for row in rows] == sorted((r for _, r in scores), reverse=True)
    for row in rows:
        mine = row["accuracy"], row["robustness"]
        beaten = any(a >= mine[0] and r >= mine[1] and (a, r) != mine for a, r in scores)
        assert row["kind"] == ("dominated" if beaten else "front")
    assert (sweep.folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    sweep.close()


def test_unfinished_trials_of_a_dead_sweep_are_taken_up(opened, tmp_path):
    first = opened(tmp_path / "sweep")
    trial = ask(first)
    first.close()
    again = opened(tmp_path / "sweep")
    (taken,) = trials(again).abandoned(again.write_settings)
    assert taken.number == trial.number and taken.params == trial.params
    again.close()


def test_two_sweeps_do_not_work_in_one_folder(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)
    first = opened(tmp_path / "sweep")
    with pytest.raises(InputError, match="another hypergen is at work"):
        opened(tmp_path / "sweep")
    first.close()


def test_of_two_sweeps_begun_together_the_second_leaves_nothing(opened, tmp_path, monkeypatch):
    def lock_after_another(*args):
        monkeypatch.setattr(module, "lock", lock)
        opened(tmp_path / "sweep").close()
        return lock(*args)

    monkeypatch.setattr(module, "lock", lock_after_another)
    with pytest.raises(InputError, match="holds a sweep with other settings"):
        opened(tmp_path / "sweep", CONFIG.replace(epsilon=0.2))
    opened(tmp_path / "sweep").close()


def test_a_folder_of_something_else_is_left_as_it_is(opened, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="exists and is not a sweep"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_swept_leaves_nothing(few, tmp_path):
    folder = tmp_path / "sweep"
    for config, vary, words in (
        (CONFIG, ("beta=0:1", "beta=0:0.5"), "beta is given twice"),
        (CONFIG, ("steps=0:3",), "`steps` must be at least 1"),
        (CONFIG.replace(base=str(tmp_path / "none.pt")), (), "none.pt"),
    ):
        with pytest.raises(InputError, match=words):
            Sweep(config, few, folder, SweepConfig(vary=vary), ReportConfig())
        assert not folder.exists()


def test_an_interrupted_sweep_leaves_no_lock(few, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "work", interrupted)
    folder = tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(CONFIG, few, folder, SweepConfig(), MACHINE, ReportConfig(), SILENT)
    assert (folder / "sweep.json").exists() and not list(folder.glob(".*"))


# At this epsilon nothing is robust, so that checking a run takes no time.
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
def test_a_sweep_survives_the_death_of_its_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "GRACE_SECONDS", 60.0)  # others may be at work here
    folder = tmp_path / "sweep"

    sweep = started(folder)
    wait_for(lambda: len(list(folder.glob("trial-*/metrics.jsonl"))) == 2)
    os.kill(children(sweep.pid)[0], signal.SIGKILL)
    wait_for(lambda: len(list(folder.glob("trial-*/results.json"))) >= 1)
    sweep.kill()
    sweep.wait()

    assert main(command(folder)) == 0
    out, said = capsys.readouterr()
    done = study(folder).get_trials()
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 3
    assert [trial.number for trial in done] == [0, 1, 2]
    assert len({trial.params["beta"] for trial in done}) == 3
    runs = sorted(path.name for path in folder.glob("trial-*"))
    assert runs == [f"trial-000{i}" for i in range(3)]
    for trial, run in zip(done, runs, strict=True):
        config = RunSettings.load(folder / run).config
        beta = float(config.objective.beta)
        assert beta == pytest.approx(trial.params["beta"], abs=1e-6)
        summary = json.loads((folder / run / "results.json").read_text())["summary"]["sample"]
        assert trial.values == [summary["accuracy"]["mean"], summary["robustness"]["mean"]]
        lines = (folder / run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(60))

    rows = json.loads((folder / "results.json").read_text())["trials"]
    assert len(rows) == 3 and "front of 3 trials" in out
    for row in rows:
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
