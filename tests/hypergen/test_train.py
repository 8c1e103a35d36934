import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import attacks
import targets
from hypergen import baseline, checkpoint, objective, report, train
from hypergen.cli import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError, RunError
from hypergen.run import run
from hypergen.sample import load_generator
from hypergen.weights_file import load_network, read_metadata


@pytest.mark.parametrize(("dataset", "radius"), [("mnist", 1.15 * 0.1), ("cifar10", 8 / 255)])
def test_generators_train_at_the_radius_of_networks_trained_directly(dataset, radius):
    config = TrainConfig(dataset=dataset)
    assert config.training_threat.epsilon == pytest.approx(radius)
    assert config.training_threat.epsilon == baseline.BaselineConfig(dataset=dataset).radius
    assert replace(config, epsilon_factor=0.5).training_threat.epsilon == config.threat.epsilon / 2


def state(folder: Path) -> Any:
    return checkpoint.load(folder / "checkpoint.safetensors")


def same(a: Any, b: Any, near: Callable[[Tensor, Tensor], bool] = torch.equal) -> bool:
    if isinstance(a, Tensor):
        return near(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key], near) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, near) for x, y in zip(a, b, strict=True))
    return a == b


def as_near_as_on(device: torch.device) -> Callable[[Tensor, Tensor], bool]:
    """Equal; on a GPU, which may add up the same numbers in another order, to 1e-3."""
    if device.type == "cpu":
        return torch.equal
    return partial(torch.allclose, rtol=1e-3, atol=1e-3)


def steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def fail_at(step: int, error: BaseException, monkeypatch) -> None:
    """Makes training fail in the middle of a step, when a good part of its state has changed."""
    whole, calls = objective.gradient, iter(range(step + 1))

    def gradient(*args):
        if next(calls) == step:
            raise error
        return whole(*args)

    monkeypatch.setattr(objective, "gradient", gradient)


# End to end


@pytest.mark.parametrize(
    ("settings", "from_base"),
    [
        (
            {
                "objective": "value",
                "value_network": "mlp",
                "generator": "published",
                "measurer": "pgd",
            },
            True,
        ),
        ({"objective": "value", "generator": "chunk"}, True),
        ({"objective": "value"}, False),
        ({"objective": "value", "value_network": "probe"}, False),
        ({"objective": "hybrid", "value_network": "statistics"}, False),
        ({"objective": "direct", "generator": "dense", "attack_steps": 1, "beta": "0:1"}, False),
        ({"objective": "hybrid", "generator": "chunk", "target": "small-lenet5"}, False),
        ({"objective": "direct", "perturbed": 0, "ema_decay": 0.0}, True),
    ],
)
def test_a_run_from_end_to_end(settings, from_base, tiny, small_report, base, cpu, tmp_path):
    config = replace(tiny, **settings, base=str(base) if from_base else None)
    folder = tmp_path / "run"
    result = run(config, folder, cpu, sizes=small_report, baselines=False)

    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(result))
    assert TrainConfig.load(folder / "config.json") == config
    assert (folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert "<pre>" in (folder / "report.html").read_text()
    assert list(folder.glob("events.out.tfevents.*"))
    assert steps(folder) == list(range(6))
    assert {"attack", "dataset", "networks", "summary"} <= result.keys()
    assert set(result["summary"]) == {"sample", "start", "2 sample voting"}
    rows = [row for row in result["networks"] if row["kind"] == "sample"]
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["robustness"] <= 1 and 0 < row["accuracy"] <= 1
        assert all(0 <= figure <= 1 for figure in row["estimated"].values())
        assert len(row["z"]) == (2 if config.generator == "published" else 16)
        assert 0 <= row["beta"] <= 1

    drawn, _, betas = load_generator(folder).draw(2, seed=config.seed + report.APART)
    images = torch.rand(5, 1, 28, 28)
    logits = drawn(images.expand(2, -1, -1, -1, -1))
    for index, row in enumerate(rows):
        file = folder / row["file"]
        plain = targets.build(config.target)
        plain.load_state_dict(safetensors.torch.load_file(file), strict=True)
        assert (plain.eval()(images) - logits[index]).abs().max() < 1e-5
        metadata = read_metadata(file)
        assert metadata["accuracy"] == row["accuracy"] and metadata["z"] == row["z"]
        assert row["beta"] == pytest.approx(float(betas[index]))


def shorten_baselines(monkeypatch, few) -> list[tuple[str, int]]:
    """Trains every baseline for one epoch on `few`; the method and seed of each are added here."""
    asked, whole = [], baseline.train_baselines

    def short(recipes, dataset, device, stop=None):
        missing = [recipe for path, recipe in recipes.items() if not path.exists()]
        asked.extend((recipe.method, recipe.seed) for recipe in missing)
        hasty = {path: replace(recipe, epochs=1) for path, recipe in recipes.items()}
        whole(hasty, few, device, stop)

    for module in (baseline, train):
        monkeypatch.setattr(module, "train_baselines", short)
    return asked


def test_the_report_compares_with_direct_training(
    tiny, small_report, cpu, few, tmp_path, monkeypatch
):
    shorten_baselines(monkeypatch, few)
    sizes = replace(small_report, sra_samples=1, sra_images=5)
    result = run(tiny, tmp_path / "run", cpu, sizes=sizes)
    counts = {kind: summary["count"] for kind, summary in result["summary"].items()}
    assert counts == {
        "sample": 2,
        "start": 1,
        "standard": 1,
        "fbf": report.FBF_COUNT,
        "pgd": 1,
        "fbf + noise": report.NOISY_COUNT,
        "fbf average": 1,
        "2 sample voting": 1,
        "3 fbf voting": 1,
    }
    for kind, summary in result["summary"].items():
        assert ("sra" not in summary) if "voting" in kind else summary["sra"]["count"] == 1
    for figure in ("disagreement", "error_overlap"):
        assert {"sample", "fbf", "fbf + noise"} == set(result[figure])
        assert all(0 <= value <= 1 for value in result[figure].values())
    assert result["value_network"].keys() == {"accuracy", "robustness"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cpu", ["generator beside 5 baselines"]),
        ("cuda", ["generator", "5 baselines"]),
    ],
)
def test_on_a_gpu_baselines_are_trained_afterwards(
    kind, expected, tiny, few, tmp_path, monkeypatch
):
    """Whatever trains beside another is not recorded as a CUDA graph."""
    done, beside = [], []

    @contextlib.contextmanager
    def alongside(recipes, *_):
        beside.append(f" beside {len(recipes)} baselines")
        yield

    for name, action in {
        "data.load": lambda *_: few,
        "trained_alongside": alongside,
        "train_baselines": lambda recipes, *_: done.append(f"{len(recipes)} baselines"),
        "train": lambda *_: done.append("generator" + "".join(beside)),
        "load_generator": Mock(side_effect=RunError("far enough")),
    }.items():
        monkeypatch.setattr(f"hypergen.run.{name}", action)
    with pytest.raises(RunError, match="far enough"):
        run(tiny, tmp_path / "run", torch.device(kind))
    assert done == expected


def test_in_l1_the_report_does_without_fbf(tiny, small_report, cpu, few, tmp_path, monkeypatch):
    shorten_baselines(monkeypatch, few)
    config = replace(tiny, norm="l1", epsilon=5.0, attack_steps=1)
    result = run(config, tmp_path / "run", cpu, sizes=small_report)
    kinds = {"sample", "start", "standard", "pgd", "2 sample voting"}
    assert result["summary"].keys() == kinds


def test_a_value_run_without_perturbed_copies_looks_at_its_base(tiny, base, few, cpu):
    config = replace(tiny, base=str(base), objective="value", perturbed=0)
    training = train.Training(config, few, cpu, base)
    training.fit_value_around_start()
    assert len(training.replay) == 1


def test_a_value_run_from_a_base_starts_at_the_base(tiny, base, few, cpu, tmp_path):
    config = replace(tiny, base=str(base), objective="value")
    training = train.Training(config, few, cpu, base)
    start = targets.WeightLayout.of(training.module).flatten(safetensors.torch.load_file(base))
    assert training.generator.theta0.equal(start)
    spreads = []
    for training.step in range(3):
        spreads.append(training.ramp())
    assert spreads == pytest.approx([1 / 1.2, 1.0, 1.0])


def test_a_base_is_trained_on_the_spot_once(tiny, few, cpu, tmp_path, monkeypatch):
    asked = shorten_baselines(monkeypatch, few)
    config = replace(tiny, base="fbf")
    first = train.prepare_base(config, few, cpu, tmp_path)
    assert first == tmp_path / "base.safetensors" == train.prepare_base(config, few, cpu, tmp_path)
    assert asked == [("fbf", 0)]


def test_direct_training_learns(tiny, there, device, tmp_path):
    config = replace(tiny, steps=80, population=4, epsilon=0.02, measure_every=80, diversity=0.0)
    training = train.train(config, there, tmp_path, device)
    population = training.sample(4, seed=0)
    images, labels = there.test.first(500)
    right = population(images.expand(4, *images.shape)).argmax(-1) == labels
    assert right.float().mean() > 0.5


def test_the_same_seed_gives_the_same_run(tiny, few, cpu, tmp_path):
    def final(seed: int, name: str) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        return train.train(replace(tiny, steps=3, seed=seed), few, folder, cpu).state_dict()

    first = final(1, "a")
    assert same(first, final(1, "b"))
    assert not same(first["generator"], final(2, "c")["generator"])


def test_tensorboard_shows_figures_and_the_scatter(tiny, few, monkeypatch, cpu, tmp_path):
    monkeypatch.setattr(train, "WATCHED_SHARE", 0.5)
    train.train(replace(tiny, epsilon=1.0), few, tmp_path, cpu)  # nothing is robust: soon measured
    shown = EventAccumulator(str(tmp_path)).Reload()
    assert {"measured/accuracy", "estimated/robustness", "watched/sra"} <= {*shown.scalars.Keys()}
    (picture,) = shown.Images("accuracy and robustness")
    assert picture.encoded_image_string.startswith(b"\x89PNG")


def test_watching_a_run_does_not_change_it(tiny, few, cpu):
    training = train.Training(tiny, few, cpu)
    training.take_step()
    before = training.state_dict()
    figures = training.watch()
    assert 0 <= figures["watched/sra"] <= figures["watched/accuracy"] <= 1
    assert -1 <= figures["watched/gap"] <= 1
    assert same(training.state_dict(), before)


@pytest.mark.parametrize("objective_name", ["direct", "value"])
def test_the_radius_grows_and_is_watched_where_it_is(objective_name, tiny, few, cpu, monkeypatch):
    monkeypatch.setattr(attacks, "standard", lambda threat: attacks.PGD(threat, steps=1))

    def radii(growth):
        config = replace(tiny, objective=objective_name, epsilon=0.1, epsilon_factor=2)
        training = train.Training(replace(config, growth=growth), few, cpu)
        for training.step in range(tiny.steps):
            attacked = training.adversary.threat.epsilon, training.measurer.threat.epsilon
            yield *attacked, training.watch()["watched/epsilon"]

    full = [0.2, 0.2, 0.1]
    grown = np.minimum(1, 0.6 + 0.4 * np.arange(1, 7) / 3)[:, None] * full
    np.testing.assert_allclose(list(radii(0.5)), grown)
    np.testing.assert_allclose(list(radii(0.0)), [full] * 6)


@pytest.mark.parametrize("objective_name", ["direct", "value"])
def test_a_measurer_found_to_flatter_gets_more_steps(objective_name, tiny, few, cpu):
    training = train.Training(replace(tiny, objective=objective_name, attack_steps=2), few, cpu)

    def steps() -> int:
        assert isinstance(training.adversary, attacks.PGD)
        return training.adversary.steps

    training.raise_attack_steps(0.1)
    assert steps() == training.attack_steps == 2
    for expected in (4, 8, 8):  # four times as many are the limit
        training.raise_attack_steps(0.11)
        assert steps() == training.attack_steps == expected
    fresh = train.Training(replace(tiny, objective=objective_name, attack_steps=2), few, cpu)
    fresh.load_state_dict(training.state_dict())
    assert fresh.attack_steps == 8


def test_the_gap_is_what_the_measurer_claims_beyond_sra(tiny, few, monkeypatch, cpu):
    def blind(threat, steps):
        return attacks.PGD(attacks.Threat("linf", 0.0), steps=steps)

    monkeypatch.setitem(train.MEASURERS, "pgd", blind)
    training = train.Training(replace(tiny, epsilon=0.5, growth=0.0), few, cpu)
    figures = training.watch()
    assert figures["watched/sra"] == 0
    assert figures["watched/gap"] == pytest.approx(figures["watched/accuracy"])


# Stopping and going on


@pytest.fixture
def config(tiny) -> TrainConfig:
    return replace(tiny, objective="hybrid")


@pytest.fixture
def uninterrupted(config, there, device, tmp_path) -> Path:
    folder = tmp_path / "uninterrupted"
    folder.mkdir()
    train.train(config, there, folder, device)
    return folder


def prepared(config: TrainConfig, folder: Path) -> Path:
    folder.mkdir()
    config.save(folder / "config.json")
    return folder


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_step_cut_in_half_is_taken_again(
    step, config, there, device, tmp_path, uninterrupted, monkeypatch
):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    folder = prepared(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        fail_at(step, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, there, folder, device)
    assert steps(folder) == list(range(step))
    assert (folder / "checkpoint.safetensors").exists() == (step > 0)
    train.train(config, there, folder, device)
    assert same(state(folder), state(uninterrupted), as_near_as_on(device))
    assert steps(folder) == steps(uninterrupted) == list(range(6))


@pytest.mark.parametrize("objective_name", ["hybrid", "value"])
def test_steps_after_the_last_checkpoint_are_taken_again(
    objective_name, config, digits, base, cpu, tmp_path, monkeypatch
):
    config = replace(config, base=str(base), objective=objective_name)
    whole = prepared(config, tmp_path / "whole")
    train.train(config, digits, whole, cpu)
    folder = prepared(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
        save = checkpoint.save
        patch.setattr(
            checkpoint, "save", lambda path, tree: save(path, tree) if tree["step"] == 2 else None
        )
        fail_at(5, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, digits, folder, cpu)
    assert state(folder)["step"] == 2 and steps(folder) == [0, 1, 2, 3, 4]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # the line that a kill cuts short
    train.train(config, digits, folder, cpu)
    assert same(state(folder), state(whole))
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


DRIVER = """
import signal, sys, time
from hypergen import train
from hypergen.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
train.CHECKPOINT_SECONDS = 0.1
train.WATCHED_SHARE = 1e9
sys.exit(main(sys.argv[1:]))
"""


def started(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A process that continues the run, once it has taken a few more steps."""
    before = len(steps_so_far(folder))
    command = [sys.executable, "-c", DRIVER, "train", "--resume", "--no-baseline"]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--out", str(folder)], stdout=file, stderr=file)
    while len(steps_so_far(folder)) < before + 5:
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    return process


def steps_so_far(folder: Path) -> list[str]:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().splitlines() if metrics.exists() else []


def test_killed_and_interrupted_processes_can_be_continued(config, digits, cpu, tmp_path):
    config = replace(config, steps=100_000)
    folder, log = prepared(config, tmp_path / "run"), tmp_path / "log.txt"

    process = started(folder, log)
    delay = random.uniform(0, 0.5)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed_at = len(steps_so_far(folder))

    process = started(folder, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said = log.read_text()
    assert "interrupted" in said.splitlines()[-1] and "Traceback" not in said
    saved = state(folder)["step"]
    assert steps(folder) == list(range(saved))

    never_stopped = train.Training(config, digits, cpu)
    for _ in range(saved):
        never_stopped.take_step()
    assert same(state(folder), never_stopped.state_dict()), f"killed {delay} s after {killed_at}"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as a terminal has it; in the background of a shell it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_the_first_ctrl_c_waits_for_the_step_and_the_second_does_not():
    with train.deferred_interrupt() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_a_whole_step(config, there, device, tmp_path, uninterrupted, monkeypatch):
    folder = prepared(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        whole = objective.gradient

        def gradient(*args):
            if len(steps_so_far(folder)) == 2:
                signal.raise_signal(signal.SIGINT)
            return whole(*args)

        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, there, folder, device)
    assert state(folder)["step"] == 3 and steps(folder) == [0, 1, 2]
    train.train(config, there, folder, device)
    assert same(state(folder), state(uninterrupted), as_near_as_on(device))


def test_a_finished_run_is_only_reported_again(tiny, small_report, cpu, tmp_path):
    folder = tmp_path / "run"
    first = run(tiny, folder, cpu, sizes=small_report, baselines=False)
    with pytest.raises(InputError, match="--resume"):
        run(tiny, folder, cpu, sizes=small_report, baselines=False)
    before = state(folder)
    (folder / "results.json").unlink()
    again = run(tiny, folder, cpu, sizes=small_report, baselines=False, resume=True)
    assert again == first and same(state(folder), before)


# Divergence


def test_nan_ends_a_run_and_keeps_its_last_good_checkpoint(
    config, there, device, tmp_path, uninterrupted, monkeypatch
):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    folder = prepared(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        whole = objective.gradient

        def gradient(*args):
            losses, found = whole(*args)
            return losses, found * (float("nan") if len(steps_so_far(folder)) == 3 else 1)

        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(RunError, match="diverged at step 3"):
            train.train(config, there, folder, device)
    assert state(folder)["step"] == 3
    train.train(config, there, folder, device)
    assert same(state(folder), state(uninterrupted), as_near_as_on(device))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "options",
    [
        ["--learning-rate", "1e29"],
        ["--learning-rate", "1e12"],
        ["--learning-rate", "1e29", "--generator", "published"],
        ["--value-learning-rate", "1e29"],
        ["--value-learning-rate", "1e29", "--value-network", "mlp", "--objective", "value"],
        ["--value-learning-rate", "1e20", "--objective", "value"],
    ],
)
def test_absurd_learning_rates_end_with_status_1(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    folder = tmp_path / "run"
    command = ["train", "--no-baseline", "--out", str(folder), *options]
    command += ["--target", "mlp", "--steps", "12", "--population", "2", "--batch-size", "8"]
    command += ["--measure-every", "1"]
    command += ["--samples", "1", "--images", "5", "--sra-samples", "0"]
    status = main(command)
    said = capsys.readouterr().err
    assert status == 1 and said.count("\n") == 1 and "diverged" in said
    saved = folder / "checkpoint.safetensors"
    if saved.exists():
        for name in ("generator", "value"):
            assert all(t.isfinite().all() for t in state(folder)[name].values())


def test_a_report_of_other_sizes_is_made_anew(tiny, small_report, cpu, tmp_path):
    folder = tmp_path / "run"
    first = run(tiny, folder, cpu, sizes=small_report, baselines=False)
    same_again = run(tiny, folder, cpu, sizes=small_report, baselines=False, resume=True)
    assert same_again == first
    for count in (3, 1):
        sizes = replace(small_report, samples=count)
        result = run(tiny, folder, cpu, sizes=sizes, baselines=False, resume=True)
        assert result["summary"]["sample"]["count"] == count
        assert len(list((folder / "samples").iterdir())) == count


def test_a_report_stays_until_the_next_one_is_there(tiny, small_report, cpu, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    first = run(tiny, folder, cpu, sizes=small_report, baselines=False)
    mine = folder / "samples" / "notes.txt"
    mine.write_text("mine")
    report = "hypergen.run.report"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(report, Mock(side_effect=KeyboardInterrupt))
        sizes = replace(small_report, samples=3)
        run(tiny, folder, cpu, sizes=sizes, baselines=False, resume=True)
    with monkeypatch.context() as patched:
        patched.setattr(report, Mock(side_effect=AssertionError))
        again = run(tiny, folder, cpu, sizes=small_report, baselines=False, resume=True)
    assert again == first
    assert len(list((folder / "samples").glob("*.safetensors"))) == small_report.samples
    run(tiny, folder, cpu, sizes=replace(small_report, samples=1), baselines=False, resume=True)
    assert {path.name for path in (folder / "samples").iterdir()} == {
        "sample-0000.safetensors",
        "notes.txt",
    }


def test_a_sample_says_how_its_figures_came_about(tiny, small_report, cpu, tmp_path):
    sizes = replace(small_report, sra_samples=1, sra_images=2)
    result = run(tiny, tmp_path / "run", cpu, sizes=sizes, baselines=False)
    metadata = read_metadata(tmp_path / "run" / "samples" / "sample-0000.safetensors")
    assert metadata["attack"] == {**result["attack"], "sra_images": 2}
    drawn = load_generator(tmp_path / "run").sample(2, seed=metadata["seed"]).module_at(0)
    saved = load_network(tmp_path / "run" / "samples" / "sample-0000.safetensors")
    assert same(saved.state_dict(), drawn.state_dict())


def test_the_base_is_not_trained_again_as_a_baseline(
    tiny, small_report, cpu, few, tmp_path, monkeypatch
):
    asked = shorten_baselines(monkeypatch, few)
    folder = tmp_path / "run"
    run(replace(tiny, base="fbf"), folder, cpu, sizes=small_report)
    assert asked == [("fbf", 0), ("pgd", 0), ("fbf", 1), ("fbf", 2), ("standard", 0)]
    base, again = folder / "base.safetensors", folder / "baselines" / "fbf-0.safetensors"
    assert again.read_bytes() == base.read_bytes()
