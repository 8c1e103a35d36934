"""Sweeps of several processes on one PostgreSQL server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.hypergen.cli.conftest import TINY
from tests.hypergen.cli.programs import ROOT

TRIALS = 30
SOON = """
from hypergen.cli.main import main
from hypergen.experiments import heartbeat

heartbeat.SECONDS, heartbeat.PATIENCE = 2.0, 30.0
raise SystemExit(main())
"""
"""`hypergen`, which takes a trial for dead after half a minute."""


def started(folder: Path, storage: str) -> subprocess.Popen[bytes]:
    """A sweep in a folder of that name; all of them share a study."""
    options = TINY.removeprefix("train ").removesuffix(" --no-baseline").split()
    command = [sys.executable, "-c", SOON, "sweep", *options, "--trials", str(TRIALS)]
    command += ["--vary", "beta=0:1", "--storage", storage, "--out", "sweep"]
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment)


def trials(storage: str, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
    try:
        study = optuna.load_study(study_name="sweep", storage=storage)
    except KeyError:  # which nobody has made yet
        return []
    return study.get_trials(states=states or None)


def at_work(storage: str, folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The running trials of the first sweep, once their settings are chosen."""
    mine = [socket.gethostname(), str(folder / "one" / "sweep")]
    running = trials(storage, TrialState.RUNNING)
    return [t for t in running if t.user_attrs.get("owner") == mine and t.params]


@pytest.mark.slow
def test_a_sweep_killed_beside_another_loses_and_doubles_nothing(postgresql, tmp_path):
    one, two = (started(tmp_path / name, postgresql) for name in ("one", "two"))
    while len(trials(postgresql, TrialState.COMPLETE)) < 2 or not at_work(postgresql, tmp_path):
        time.sleep(0.2)
        assert one.poll() is None and two.poll() is None
    one.send_signal(signal.SIGKILL)
    one.wait()
    (lost,) = at_work(postgresql, tmp_path)
    assert two.wait(3600) == 0
    complete = trials(postgresql, TrialState.COMPLETE)
    assert len(complete) == TRIALS
    betas = [trial.params["beta"] for trial in complete]
    assert len({*betas}) == TRIALS and betas.count(lost.params["beta"]) == 1
    (again,) = (t for t in complete if t.params == lost.params)
    assert again.user_attrs["again"] == lost.number
    assert [t.number for t in trials(postgresql, TrialState.FAIL)] == [lost.number]
    assert not trials(postgresql, TrialState.RUNNING, TrialState.WAITING)
    rows = json.loads((tmp_path / "two" / "sweep" / "results.json").read_text())["trials"]
    assert len(rows) == TRIALS
    assert all((tmp_path / "two" / row["run"]).is_dir() for row in rows)
    assert started(tmp_path / "one", postgresql).wait(600) == 0  # which has nothing left to do
    assert len(trials(postgresql)) == TRIALS + 1
