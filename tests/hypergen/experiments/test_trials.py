"""The processes of a sweep: told, started again when killed, given up when they fail."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hypergen.errors import InputError, RunError
from hypergen.experiments.pruning import HypervolumeHalvingPruner, build_pruner
from hypergen.experiments.run_folder import ReportConfig
from hypergen.experiments.trials import (
    MAX_ATTEMPTS,
    Machine,
    Trials,
    figures,
    killed,
    stop,
)
from hypergen.runtime.progress import SILENT

OWNER = ["host", "/folder"]
MEASURES = "accuracy", "robustness"
SIZES = ReportConfig(sra_samples=0, split="val")
SAMPLE = {"accuracy": {"mean": 0.75}, "pgd": {"mean": 0.25}, "sra": {"mean": 0.125}}
FINISHED = {"report": asdict(SIZES), "summary": {"sample": SAMPLE}}
DONE = f"from pathlib import Path; Path('results.json').write_text({json.dumps(FINISHED)!r})"
KILLED = "import os; os.kill(os.getpid(), 9)"
FAILED = "import sys; print('hypergen: diverged'); sys.exit(1)"
REFUSED = "import sys; print('hypergen: No space left on device'); sys.exit(74)"
WRONG = "import sys; print('hypergen: no such file'); sys.exit(2)"
SAVING = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: (open('saved', 'w').close(), sys.exit(130)))\n"
)
WAITING = "open('ready', 'w').close(); time.sleep(600)"


class Scripted(Trials):
    """Instead of a training, each process of a trial runs the next of a list of programs."""

    programs: list[str] = [DONE]
    started: list[int]

    def start(self, trial: optuna.Trial, sizes: ReportConfig) -> subprocess.Popen[bytes]:
        folder = self.run_folder(trial)
        self.started.append(trial.number)
        program = self.programs[min(len(self.started), len(self.programs)) - 1]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen([sys.executable, "-c", program], cwd=folder, stdout=log)


@pytest.fixture
def trials(tmp_path):
    def make(*programs: str, workers: int = 1, study: optuna.Study | None = None) -> Scripted:
        study = study or optuna.create_study(directions=["maximize", "maximize"])
        made = Scripted(study, tmp_path, OWNER, MEASURES, Machine("cpu", None), workers)
        made.programs, made.started = list(programs), []
        return made

    return make


def choose(trial: optuna.Trial, folder: Path) -> None:
    trial.suggest_float("beta", 0, 1)


def states(trials: Trials) -> list[TrialState]:
    return [trial.state for trial in trials.study.get_trials()]


def test_a_killed_process_is_started_again(trials):
    some = trials(KILLED, KILLED, DONE)
    some.work(2, choose, SIZES, SILENT)
    assert states(some) == [TrialState.COMPLETE] * 2
    assert some.started == [0, 0, 0, 1]
    assert some.study.trials[0].values == [0.75, 0.25]


def test_what_is_always_killed_has_failed(trials):
    some = trials(*[KILLED] * MAX_ATTEMPTS, DONE)
    some.work(1, choose, SIZES, SILENT)
    assert some.started == [0] * MAX_ATTEMPTS + [1]
    assert states(some) == [TrialState.FAIL, TrialState.COMPLETE]


def test_several_work_at_once(trials):
    some = trials(DONE, workers=3)
    some.work(3, choose, SIZES, SILENT)
    assert states(some) == [TrialState.COMPLETE] * 3
    assert len({trial.params["beta"] for trial in some.study.trials}) == 3
    some.work(3, choose, SIZES, SILENT)  # there is nothing left to do
    assert len(some.started) == 3


def test_too_many_failures_end_a_sweep(trials):
    some = trials(FAILED)
    with pytest.raises(RunError, match="too many trials fail; last: hypergen: diverged"):
        some.work(2, choose, SIZES, SILENT)
    assert states(some) == [TrialState.FAIL] * 3


def test_a_trial_that_is_refused_a_file_is_told_and_goes_on_when_its_sweep_does(trials):
    first = trials(DONE, REFUSED)
    with pytest.raises(RunError, match="trial 1 could not go on: hypergen: No space left on dev"):
        first.work(3, choose, SIZES, SILENT)
    assert states(first) == [TrialState.COMPLETE, TrialState.RUNNING]
    again = trials(DONE, study=first.study)
    again.work(3, choose, SIZES, SILENT)
    assert again.started == [1, 2] and states(again) == [TrialState.COMPLETE] * 3


def test_a_trial_that_is_always_refused_a_file_fails_in_the_end(trials):
    study = None
    for _ in range(MAX_ATTEMPTS - 1):
        some = trials(REFUSED, study=study)
        study = some.study
        with pytest.raises(RunError, match="repeat the command"):
            some.work(1, choose, SIZES, SILENT)
    some = trials(REFUSED, DONE, study=study)
    some.work(1, choose, SIZES, SILENT)
    assert some.started == [0, 1] and states(some) == [TrialState.FAIL, TrialState.COMPLETE]


def test_bad_input_ends_a_sweep_at_once(trials):
    some = trials(WRONG)
    with pytest.raises(RunError, match="a trial cannot run: hypergen: no such file"):
        some.work(5, choose, SIZES, SILENT)
    assert states(some) == [TrialState.FAIL]


def test_a_process_that_ends_without_a_report_has_failed(trials):
    some = trials("pass", DONE)
    some.work(1, choose, SIZES, SILENT)
    assert states(some) == [TrialState.FAIL, TrialState.COMPLETE]


def test_settings_that_cannot_be_together_fail_their_trial_alone(trials):
    """Or every repetition of the command would meet them again."""
    refused = iter([True])

    def write_settings(trial, folder):
        if next(refused, False):
            raise InputError("weights must not all be 0")

    made = trials(DONE)
    with pytest.raises(InputError, match="all be 0"):
        made.work(1, write_settings, SIZES, SILENT)
    assert states(made) == [TrialState.FAIL]
    made.work(1, write_settings, SIZES, SILENT)
    assert states(made) == [TrialState.FAIL, TrialState.COMPLETE]


def test_trials_of_a_dead_sweep_are_continued_and_those_of_others_left(trials):
    first = trials(DONE)
    mine = first.ask(choose)
    other = first.study.ask()
    other.set_user_attr("owner", ["elsewhere", "/folder"])
    again = trials(DONE, study=first.study)
    again.work(1, choose, SIZES, SILENT)
    assert again.started == [mine.number]
    assert states(again) == [TrialState.COMPLETE, TrialState.RUNNING]


def test_where_no_other_sweep_is_all_unfinished_trials_are_continued(trials):
    """One that a kill left unsigned, and one of the time when the folder was elsewhere."""
    first = trials(DONE)
    first.study.ask()
    first.study.ask().set_user_attr("owner", ["elsewhere", "/folder"])
    again = trials(DONE, study=first.study)
    again.alone = True
    again.work(2, choose, SIZES, SILENT)
    assert states(again) == [TrialState.COMPLETE] * 2
    assert all(trial.user_attrs["owner"] == OWNER for trial in again.study.get_trials())


@pytest.mark.parametrize("sra_samples", [0, 1])
def test_figures_are_of_the_report_that_was_asked_for(tmp_path, sra_samples):
    sizes = replace(SIZES, sra_samples=sra_samples)
    whole = FINISHED | {"report": asdict(sizes)}
    results = tmp_path / "results.json"
    results.write_text(json.dumps(whole))
    assert figures(tmp_path, sizes, MEASURES) == [0.75, [0.25, 0.125][sra_samples]]
    name = ["pgd", "sra"][sra_samples]
    for damaged in (
        whole | {"report": asdict(replace(sizes, split="test"))},
        {"summary": whole["summary"]},
        whole | {"summary": {"sample": 3}},
        whole | {"summary": {"sample": SAMPLE | {name: {"mean": "0.5"}}}},
        whole | {"summary": {"sample": SAMPLE | {name: {"mean": True}}}},
        whole | {"summary": {"sample": {n: v for n, v in SAMPLE.items() if n != name}}},
        [],
    ):
        results.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"results\.json") as told:
            figures(tmp_path, sizes, MEASURES)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("sra_samples", [0, 1])
def test_figures_are_of_all_measures_of_a_run(tmp_path, sra_samples):
    sizes = replace(SIZES, sra_samples=sra_samples)
    summary = {"sample": SAMPLE | {"int8:bits=4": {"mean": 0.625}}}
    whole = {"report": asdict(sizes), "summary": summary}
    (tmp_path / "results.json").write_text(json.dumps(whole))
    names = ["accuracy", "int8:bits=4", "robustness"]
    assert figures(tmp_path, sizes, names) == [0.75, 0.625, [0.25, 0.125][sra_samples]]
    assert figures(tmp_path, sizes, names[:2]) == [0.75, 0.625]
    with pytest.raises(InputError, match="is damaged"):
        figures(tmp_path, sizes, [*names, "noise"])


def test_an_interrupted_sweep_ends_its_processes(trials):
    some = trials("import time; time.sleep(600)", workers=2)
    processes = []
    whole = some.start

    def start(*args):
        if len(processes) == 2:
            raise KeyboardInterrupt
        processes.append(whole(*args))
        return processes[-1]

    some.start = start
    with pytest.raises(KeyboardInterrupt):
        some.workers = 3
        some.work(3, choose, SIZES, SILENT)
    assert all(process.poll() is not None for process in processes)
    assert TrialState.COMPLETE not in states(some)


def test_processes_may_save_before_they_end(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SAVING + WAITING], cwd=tmp_path)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    stop([process])
    assert (tmp_path / "saved").exists() and process.returncode == 130 and killed(process)


def at_rung(accuracy: float, robustness: float, then: str) -> str:
    """A program whose run has reached the first rung."""
    reached = {"0.25": {"accuracy": [accuracy] * 2, "robustness": [robustness] * 2}}
    text = json.dumps(reached)
    return f"""{SAVING}
with open('part', 'w') as file:
    file.write({text!r})
os.replace('part', 'rungs.json')
{then}"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hopeless_trial_is_ended_and_not_begun_again(trials, workers):
    good = [at_rung(0.8, 0.5, DONE), at_rung(0.9, 0.4, DONE), at_rung(0.7, 0.6, DONE)]
    programs = *good, at_rung(0.6, 0.3, WAITING), DONE
    some = trials(*programs)
    some.study.pruner = HypervolumeHalvingPruner(10)
    some.work(3, choose, SIZES, SILENT)
    some.workers = workers
    some.work(5, choose, SIZES, SILENT)
    assert states(some) == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED, TrialState.COMPLETE]
    assert some.started == [0, 1, 2, 3, 4]
    pruned = some.study.trials[3]
    assert (some.run_folder(pruned) / "saved").exists()
    assert pruned.user_attrs["rung-0.25"] == ([0.6, 0.3], [0.6, 0.3]) and pruned.values is None

    again = trials(DONE, study=some.study)
    again.work(6, choose, SIZES, SILENT)
    assert again.started == [5]  # pruned trials count as finished
    assert {trial.state for trial in some.study.best_trials} == {TrialState.COMPLETE}


def test_without_a_pruner_no_trial_is_ended(trials):
    some = trials(*[at_rung(0.9, 0.9, DONE)] * 4, at_rung(0.1, 0.1, DONE))
    some.study.pruner = build_pruner("none", 10)
    some.work(5, choose, SIZES, SILENT)
    assert states(some) == [TrialState.COMPLETE] * 5


def test_a_rung_is_stored_once_however_often_a_process_is_killed(trials):
    some = trials(at_rung(0.9, 0.4, KILLED), at_rung(0.1, 0.1, KILLED), at_rung(0.2, 0.2, DONE))
    some.study.pruner = HypervolumeHalvingPruner(10, n_min_trials=1)
    asked = []
    some.study.pruner.prune = lambda study, trial: bool(asked.append(trial.number))
    some.work(1, choose, SIZES, SILENT)
    assert some.study.trials[0].user_attrs["rung-0.25"] == ([0.9, 0.4], [0.9, 0.4])
    assert some.started == [0, 0, 0] and asked == [0]
    again = trials(at_rung(0.3, 0.3, DONE), study=some.study)  # of another process of the sweep
    again.ask(choose).set_user_attr("rung-0.25", [[0.5, 0.5], [0.6, 0.6]])
    again.work(2, choose, SIZES, SILENT)
    assert again.study.trials[1].user_attrs["rung-0.25"] == [[0.5, 0.5], [0.6, 0.6]]
    assert asked == [0]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(-signal.SIGKILL, True), (128 + signal.SIGINT, True), (0, False), (1, False), (2, False)],
)
def test_what_was_stopped_from_outside_can_be_continued(status, expected):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    process.returncode = status
    assert killed(process) == expected


def test_a_process_is_the_command_of_the_run(trials, tmp_path, monkeypatch):
    """With its device, data, plugins and sizes; the sweep's lock goes with it."""
    seen = {}

    def popen(command, **options):
        seen["command"], seen["options"] = command, options

    monkeypatch.setattr(subprocess, "Popen", popen)
    some = trials(DONE)
    some.machine = Machine("cpu", tmp_path / "data", ("my.py", "pkg.mod"), 7, 2**30)
    trial = some.ask(choose)
    Trials.start(some, trial, ReportConfig(2, 20, 0, 5, "val"))
    words = " ".join(seen["command"])
    assert f"train --resume --no-baseline --out {some.run_folder(trial)} --device cpu" in words
    assert (
        f"--data-dir {tmp_path / 'data'} --memory {2**30} --plugin my.py --plugin pkg.mod" in words
    )
    assert words.endswith("--samples 2 --images 20 --sra-samples 0 --sra-images 5 --split val")
    assert seen["options"]["pass_fds"] == (7,) and seen["options"]["start_new_session"]
