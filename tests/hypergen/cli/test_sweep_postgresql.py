"""Sweeps of several processes on one PostgreSQL server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.hypergen.cli.conftest import TINY
from tests.hypergen.cli.programs import ROOT

TRIALS = 4


def started(folder: Path, storage: str) -> subprocess.Popen[bytes]:
    """A sweep in a folder of that name; all of them share a study."""
    options = TINY.removeprefix("train ").removesuffix(" --no-baseline").split()
    command = [sys.executable, "-m", "hypergen", "sweep", *options, "--trials", str(TRIALS)]
    command += ["--vary", "beta=0:1", "--storage", storage, "--out", "sweep"]
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment)


def finished(storage: str) -> list[optuna.trial.FrozenTrial]:
    try:
        study = optuna.load_study(study_name="sweep", storage=storage)
    except KeyError:  # which nobody has made yet
        return []
    return study.get_trials(states=(TrialState.COMPLETE,))


@pytest.mark.slow
def test_a_sweep_killed_beside_another_loses_and_doubles_nothing(postgresql, tmp_path):
    one, two = (started(tmp_path / name, postgresql) for name in ("one", "two"))
    while not finished(postgresql):
        time.sleep(0.2)
        assert one.poll() is None and two.poll() is None
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert two.wait(600) == 0
    assert started(tmp_path / "one", postgresql).wait(600) == 0
    trials = finished(postgresql)
    # What the killed one had begun may come beside the trials that were wanted.
    assert TRIALS <= len(trials) <= TRIALS + 1 and len({trial.number for trial in trials}) == len(
        trials
    )
    assert len({trial.params["beta"] for trial in trials}) == len(trials)
    rows = json.loads((tmp_path / "one" / "sweep" / "results.json").read_text())["trials"]
    assert len(rows) == len(trials) and all(Path(row["run"]).is_dir() for row in rows)
