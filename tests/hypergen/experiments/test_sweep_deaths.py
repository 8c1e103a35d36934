"""A sweep whose processes die, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hypergen.cli.main import main
from hypergen.experiments import sweep as module
from hypergen.experiments.run_folder import RunSettings

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
        assert json.loads((folder / run / "results.json").read_text())["attack"]["split"] == "val"
        lines = (folder / run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(60))

    rows = json.loads((folder / "results.json").read_text())["trials"]
    assert len(rows) == 3 and "front of 3 trials" in out
    for row in rows:
        assert (row["run"] in out) == (row["kind"] == "front") == (row["test"] is not None)

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
