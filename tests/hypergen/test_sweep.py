import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from hypergen.cli import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.sweep import Sweep, open_storage, parse_vary

TRIALS = 4
TINY = [
    *("--dataset", "digits", "--target", "mlp", "--device", "cpu", "--steps", "40"),
    *("--population", "2", "--batch-size", "8", "--measure-images", "8", "--value-steps", "1"),
    *("--samples", "2", "--sra-samples", "0", "--images", "20"),
]
WAIT_SECONDS = 150


@pytest.mark.parametrize(
    ("text", "field", "low", "high"),
    [
        ("beta=0:1", "beta", 0, 1),
        ("learning-rate=1e-4:1e-2:log", "learning_rate", 1e-4, 1e-2),
        ("value_learning_rate=0.1:0.2", "value_learning_rate", 0.1, 0.2),
        ("epsilon=0:0.3", "epsilon", 0, 0.3),
        ("latent-size=2:64:log", "latent_size", 2, 64),
    ],
)
def test_vary_by_range(text, field, low, high):
    name, suggest = parse_vary(text, TrainConfig())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest(study.ask()) for _ in range(20)]
    assert name == field and len(set(drawn)) > 5
    assert all(low <= float(value) <= high for value in drawn)
    for value in drawn:  # what is drawn is what a run can be configured with
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("text", "field", "choices"),
    [
        ("objective=value,direct", "objective", {"value", "direct"}),
        ("beta=0.1,0.9", "beta", {"0.1", "0.9"}),
        ("steps=10,20", "steps", {10, 20}),
        ("ema-decay=0,0.5", "ema_decay", {0.0, 0.5}),
    ],
)
def test_vary_by_list(text, field, choices):
    name, suggest = parse_vary(text, TrainConfig())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert name == field and {suggest(study.ask()) for _ in range(20)} == choices


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("betta=0:1", 'did you mean "beta"'),
        ("beta", "NAME=LOW:HIGH"),
        ("beta=", "NAME=LOW:HIGH"),
        ("beta=0:1.2", "[0,1]"),
        ("beta=nan:1", "LOW below HIGH"),
        ("beta=1:0", "LOW below HIGH"),
        ("beta=0:1:log", "LOW below HIGH"),
        ("beta=0.1:1:lin", "LOW below HIGH"),
        ("beta=0.1:0.5:1:log", "LOW below HIGH"),
        ("steps=1:2.5", "expected numbers"),
        ("steps=0:5", "at least 1"),
        ("learning-rate=a,b", "expected numbers"),
        ("learning-rate=0.1:inf", "above 0"),
        ("weight-decay=-1:1", "at least 0"),
        ("activation=relu:elu", "takes names"),
        ("activation=1:2", "takes names"),
        ("activation=relu,swich", 'did you mean "swish"'),
        ("epsilon=-1:1", "epsilon >= 0"),
    ],
)
def test_vary_that_cannot_be_is_refused(text, said):
    with pytest.raises(ValueError) as caught:  # an InputError, or the threat's AttackError
        parse_vary(text, TrainConfig())
    assert type(caught.value) is not ValueError
    assert said in str(caught.value) and "\n" not in str(caught.value)


class Process:
    """`hypergen sweep` in a process of its own, deaf to nothing."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-m", "hypergen.cli", "sweep", *TINY, "--out", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--trials", str(TRIALS), "--workers", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # pytest may itself run where SIGINT is ignored, as after `&` in a script
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def children(self) -> set[int]:
        """The processes of its trials."""
        path = Path(f"/proc/{self.process.pid}/task")
        return {
            int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()
        }

    def end(self) -> tuple[int, str, str]:
        """Its status and what it said."""
        out, err = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, out, err


def until(condition, what: str):
    """Waits for `condition()` to be true and gives its value."""
    end = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


def alive(pid: int) -> bool:
    """Whether a process is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def at_work(folder: Path, *trials: int):
    """A condition: these trials have trained a step."""
    return lambda: all((folder / f"trial-{n:04d}" / "metrics.jsonl").exists() for n in trials)


def complete(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The finished trials in the sweep's storage."""
    study = optuna.load_study(study_name=folder.name, storage=open_storage(None, folder))
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep that has had a trial killed, was killed itself, interrupted, and at last let be."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to find the processes of the trials")
    folder = tmp_path_factory.mktemp("sweeps") / "sweep"

    sweep = Process(folder)
    until(at_work(folder, 0, 1), "two trials at work")
    before = sweep.children()
    os.kill(victim := min(before), signal.SIGKILL)
    until(lambda: victim not in sweep.children() and len(sweep.children()) == 2, "a second attempt")
    orphans = sweep.children()
    sweep.process.kill()
    assert sweep.end()[0] == -signal.SIGKILL

    sweep = Process(folder)
    workers = until(lambda: len(sweep.children()) == 2 and sweep.children(), "the sweep to go on")
    assert not any(map(alive, orphans)), "two processes at work on one trial"
    sweep.process.send_signal(signal.SIGINT)
    status, _, complaint = sweep.end()
    assert status == 130 and "repeat the command" in complaint and "Traceback" not in complaint
    until(lambda: not any(map(alive, workers)), "trials to end with their sweep")

    status, table, complaint = Process(folder).end()
    assert status == 0, complaint
    return folder, table


def test_a_battered_sweep_ends_with_exactly_the_wanted_trials(finished):
    folder, _ = finished
    trials = complete(folder)
    assert len(trials) == TRIALS
    assert len({trial.params["beta"] for trial in trials}) == TRIALS, "drawn twice"
    runs = sorted(folder.glob("trial-*"))
    assert [run.name for run in runs] == [f"trial-{trial.number:04d}" for trial in trials]
    for run, trial in zip(runs, trials, strict=True):
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()]
        assert steps == list(range(40)), f"{run.name} was worked on by two at a time"
        assert float(TrainConfig.load(run / "config.json").beta) == pytest.approx(
            trial.params["beta"], abs=1e-5
        )


def test_the_front_is_written(finished):
    folder, table = finished
    rows = json.loads((folder / "results.json").read_text())["trials"]
    assert len(rows) == TRIALS and (folder / "scatter.png").read_bytes()[1:4] == b"PNG"
    for row in rows:
        figures = row["accuracy"], row["robustness"]
        better = [
            other
            for other in rows
            if other["accuracy"] >= figures[0]
            and other["robustness"] >= figures[1]
            and (other["accuracy"], other["robustness"]) != figures
        ]
        assert row["kind"] == ("dominated" if better else "front")
        assert (row["run"][-40:] in table) == (row["kind"] == "front")
        summary = json.loads((Path(row["run"]) / "results.json").read_text())["summary"]["sample"]
        assert figures == (summary["accuracy"]["mean"], summary["robustness"]["mean"])


def test_the_best_trial_is_ready_for_sample(finished, tmp_path):
    folder, _ = finished
    best = json.loads((folder / "results.json").read_text())["trials"][0]["run"]
    out = tmp_path / "drawn"
    assert main(["sample", best, "--count", "1", "--images", "4", "--out", str(out)]) == 0
    assert len(list(out.glob("*.safetensors"))) == 1


def test_the_same_command_again_adds_nothing(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trial-*/*")}
    assert main(["sweep", *TINY, "--out", str(folder), "--trials", str(TRIALS)]) == 0
    assert len(complete(folder)) == TRIALS
    assert {path: path.stat().st_mtime_ns for path in folder.glob("trial-*/*")} == before


@pytest.mark.parametrize("other", [["--steps", "41"], ["--vary", "steps=3:5"], ["--samples", "3"]])
def test_other_settings_in_the_same_folder_are_refused(finished, other, capsys):
    folder, _ = finished
    before = (folder / "sweep.json").read_text()
    assert main(["sweep", *TINY, "--out", str(folder), *other]) == 2
    assert "other settings" in capsys.readouterr().err
    assert (folder / "sweep.json").read_text() == before and len(complete(folder)) == TRIALS


def test_two_sweeps_never_work_in_one_folder(tmp_path, monkeypatch):
    from hypergen.config import SweepConfig
    from hypergen.report import ReportConfig

    monkeypatch.setattr("hypergen.sweep.GRACE_SECONDS", 0.5)
    settings = (TrainConfig(), tmp_path / "s", SweepConfig(), "cpu", None, ReportConfig())
    first = Sweep(*settings)
    with pytest.raises(InputError, match="another hypergen sweep"):
        Sweep(*settings)
    orphan = subprocess.Popen(["sleep", "60"], pass_fds=(first.lock,))
    os.close(first.lock)  # as when the sweep is killed, but not yet its trial
    with pytest.raises(InputError, match="another hypergen sweep"):
        Sweep(*settings)
    orphan.kill()
    orphan.wait()
    os.close(Sweep(*settings).lock)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "0"], "--trials must be at least 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--vary", "betta=0:1"], 'did you mean "beta"'),
        (["--vary", "beta=0:1", "--vary", "beta=0,1"], "beta is given twice"),
        (["--storage", "nonsense://x"], "--storage nonsense://x"),
        (["--base", "no-such-file.safetensors"], "no-such-file"),
    ],
)
def test_bad_options_write_nothing(tmp_path, capsys, options, said):
    assert main(["sweep", *TINY, "--out", str(tmp_path / "s"), *options]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "s").exists()
