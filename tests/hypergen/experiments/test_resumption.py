"""What stops a run, and how it goes on: as if it had never been stopped."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.experiments import run as experiment
from hypergen.experiments.compare import REPORTED
from hypergen.experiments.run import load_generator, run, train_generator
from hypergen.experiments.run_folder import RESULTS, ReportConfig, RunSettings
from hypergen.measures import attacked
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage import checkpoint
from hypergen.storage.atomic import former
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.training import objective
from tests.hypergen.experiments.runs import (
    Interrupting,
    lines,
    same,
    saving_always,
    state,
    steps,
    timeless,
)


@pytest.fixture
def config(tiny) -> TrainConfig:
    return tiny.replace(objective="hybrid")


@pytest.fixture
def training(config, few, cpu) -> Callable[..., None]:
    """Trains the generator of a folder."""

    def go(folder: Path, progress: Progress = SILENT, config: TrainConfig = config) -> None:
        folder.mkdir(exist_ok=True)
        RunSettings(config, few.info, ReportConfig(), baselines=False).save(folder)
        train_generator(config, few, folder, cpu, progress)

    return go


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("trainings") / "original"


@pytest.fixture
def never_stopped(training, original) -> Path:
    """A training that nothing stops, done once; not to be written to."""
    if not original.exists():
        training(original)
    return original


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_step_cut_in_half_is_taken_again(step, training, never_stopped, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    saving_always(monkeypatch)
    with monkeypatch.context() as patch:
        whole, calls = objective.gradient, iter(range(step + 1))

        def gradient(*args):
            if next(calls) == step:  # a good part of the state has changed by then
                raise KeyboardInterrupt
            return whole(*args)

        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(KeyboardInterrupt):
            training(folder)
    assert steps(folder) == list(range(step))
    assert (folder / CHECKPOINT).exists() == (step > 0)
    training(folder)
    assert same(state(folder), state(never_stopped))
    assert steps(folder) == steps(never_stopped) == list(range(6))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("objective_name", ["hybrid", "value"])
def test_steps_after_the_last_checkpoint_are_taken_again(
    objective_name, config, training, fresh_base, tmp_path, monkeypatch
):
    config = config.replace(base=str(fresh_base), objective=objective_name)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    training(whole, config=config)
    saving_always(monkeypatch)
    save = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint, "save", lambda path, tree: save(path, tree) if tree["step"] == 2 else None
        )
        with pytest.raises(KeyboardInterrupt):
            training(folder, Interrupting(5, KeyboardInterrupt()), config)
    assert state(folder)["step"] == 2 and steps(folder) == [0, 1, 2, 3, 4]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # the line that a kill cuts short
    training(folder, config=config)
    assert same(state(folder), state(whole))
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    training, never_stopped, tmp_path, monkeypatch
):
    saving_always(monkeypatch)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training(folder, Interrupting(4, KeyboardInterrupt()))
    path = folder / CHECKPOINT
    taken = checkpoint.load(former(path))["step"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="the checkpoint before it, is used"):
        training(folder)
    assert taken in (2, 3)
    assert same(state(folder), state(never_stopped))
    assert steps(folder) == steps(never_stopped)


def test_a_run_goes_on_when_what_follows_anyway_is_no_longer_said(tiny, trained, tmp_path):
    said = {"base": None, "attack_steps": 3, "epsilon_start": 0.6}
    first = trained(tiny.replace(**said), tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    again = trained(tiny, tmp_path / "run", resume=True)
    assert again.settings.config == tiny != first.settings.config
    assert again.results["networks"] == first.results["networks"]


def test_settings_that_have_changed_since_the_checkpoint_are_refused(
    config, training, tmp_path, monkeypatch
):
    saving_always(monkeypatch)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training(folder, Interrupting(2, KeyboardInterrupt()))
    other = config.replace(beta=0.9)
    with pytest.raises(InputError, match="of other settings than config.json beside it: beta: "):
        training(folder, config=other)
    with pytest.raises(InputError, match="of other settings than config.json beside it: beta: "):
        load_generator(folder)
    training(folder)
    load_generator(folder)


def test_what_a_kill_left_half_written_is_tidied(tiny, trained, tmp_path):
    folder = tmp_path / "run"
    trained(tiny, folder)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = folder / f".{CHECKPOINT}.{process.pid}.part"
    left.write_bytes(b"half")
    trained(tiny, folder, resume=True)
    assert not left.exists() and not list(folder.glob(".*"))


def test_an_interrupted_run_goes_on_where_it_was(tiny, trained, few, cpu, tmp_path, monkeypatch):
    saving_always(monkeypatch)
    folder, whole = tmp_path / "run", trained(tiny, tmp_path / "whole").results
    settings = RunSettings(tiny, few.info, ReportConfig(2, 20, 0), baselines=False)
    with pytest.raises(KeyboardInterrupt):
        run(settings, few, folder, cpu, progress=Interrupting(2, KeyboardInterrupt()))
    assert not (folder / RESULTS).exists() and not list(folder.glob(".*"))
    resumed = trained(tiny, folder, resume=True).results
    assert timeless(resumed) == timeless(whole)
    first, second = (row["seconds"] for row in resumed["sessions"])
    assert len(whole["sessions"]) == 1 and first > 0 and second > 0


def test_a_report_that_is_cut_short_goes_on_where_it_was(tiny, few, cpu, tmp_path, monkeypatch):
    attack, judged = attacked._attack_chunk, []
    last = math.inf

    def attack_chunk(*args):
        if len(judged) == last:
            raise KeyboardInterrupt
        judged.append(args)
        return attack(*args)

    monkeypatch.setattr(attacked, "_attack_chunk", attack_chunk)
    settings = RunSettings(tiny, few.info, ReportConfig(2, 20, 1, 20), baselines=False)
    whole = run(settings, few, tmp_path / "whole", cpu).results
    parts, folder = len(judged), tmp_path / "run"
    last = parts + parts // 2
    with pytest.raises(KeyboardInterrupt):
        run(settings, few, folder, cpu)
    assert parts > 3 and (folder / REPORTED).exists()
    last = math.inf
    resumed = run(settings, few, folder, cpu, resume=True).results
    assert len(judged) == 2 * parts and timeless(resumed) == timeless(whole)
    assert not (folder / REPORTED).exists()


def test_nan_ends_a_run_and_keeps_its_last_good_checkpoint(
    training, never_stopped, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    saving_always(monkeypatch)
    with monkeypatch.context() as patch:
        whole = objective.gradient

        def gradient(*args):
            losses, found = whole(*args)
            return losses, found * (float("nan") if len(lines(folder)) == 3 else 1)

        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(RunError, match="diverged at step 3"):
            training(folder)
    assert state(folder)["step"] == 3
    training(folder)
    assert same(state(folder), state(never_stopped))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 1e29},
        {"learning_rate": 1e12},
        {"learning_rate": 1e29, "generator": "published"},
        {"value_learning_rate": 1e29},
        {"value_learning_rate": 1e29, "value_network": "mlp", "objective": "value"},
        {"value_learning_rate": 1e20, "objective": "value"},
    ],
    ids=str,
)
def test_absurd_learning_rates_are_a_failed_run(options, tiny, trained, tmp_path, monkeypatch):
    saving_always(monkeypatch)
    folder = tmp_path / "run"
    config = tiny.replace(**{"steps": 12, "measure_every": 1, "value_steps": 16} | options)
    with pytest.raises(RunError, match="diverged") as told:
        trained(config, folder)
    assert "\n" not in str(told.value)
    if (folder / CHECKPOINT).exists():
        for name in ("generator", "value"):
            assert all(t.isfinite().all() for t in state(folder)[name].values())


DRIVER = """
import sys, time
from hypergen.experiments import run
from hypergen.training.loop import train

def train_until(trainer, save, on_step):
    def save_and_wait(state):
        save(state)
        if state["step"] >= float(sys.argv[2]):
            time.sleep(60)
    train(trainer, save_and_wait, on_step, checkpoint_seconds=0.0)

run.train = train_until
from hypergen.cli.main import main
sys.exit(main(["train", "--resume", "--no-baseline", "--out", sys.argv[1]]))
"""


def started(folder: Path, log: Path, until: float = math.inf) -> subprocess.Popen[bytes]:
    """A process that continues the run, once it has taken a few more steps.

    until: the step at which it waits to be killed.
    """
    before = len(lines(folder))
    with log.open("wb") as file:
        command = [sys.executable, "-c", DRIVER, str(folder), str(until)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    while len(lines(folder)) < before + 3 or not (folder / CHECKPOINT).exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    return process


def prepared(config: TrainConfig, images: Dataset, folder: Path) -> Path:
    folder.mkdir()
    RunSettings(config, images.info, ReportConfig(), baselines=False).on(images).save(folder)
    return folder


def test_a_killed_process_can_be_continued(config, digits, cpu, tmp_path):
    folder = prepared(config, digits, tmp_path / "run")
    process = started(folder, tmp_path / "log.txt", until=4)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < state(folder)["step"] < config.optimisation.length
    train_generator(config, digits, folder, cpu, SILENT)
    whole = prepared(config, digits, tmp_path / "whole")
    train_generator(config, digits, whole, cpu, SILENT)
    assert same(state(folder), state(whole)) and steps(folder) == steps(whole)


@pytest.mark.slow
def test_killed_and_interrupted_processes_can_be_continued(config, digits, cpu, tmp_path):
    config = config.replace(steps=100_000)
    folder, log = prepared(config, digits, tmp_path / "run"), tmp_path / "log.txt"
    process = started(folder, log)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = started(folder, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said = log.read_text()
    assert "interrupted" in said.splitlines()[-1] and "Traceback" not in said
    saved = state(folder)["step"]
    assert steps(folder) == list(range(saved))
    never_stopped = experiment.Trainer(config, digits, cpu)
    for _ in range(saved):
        never_stopped.advance()
    assert same(state(folder), never_stopped.state_dict())
