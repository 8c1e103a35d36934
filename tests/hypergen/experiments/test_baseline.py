"""Networks trained directly, as files: alone, several at once, beside something else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
import safetensors.torch
import torch

import targets
from hypergen.config import TrainConfig
from hypergen.errors import InputError, RunError
from hypergen.experiments import baseline
from hypergen.experiments.baseline import (
    NETWORK,
    cost_left,
    require_trained_by,
    save_baseline,
    train_baseline,
    train_baselines,
    trained_alongside,
)
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.weights import load_network, read_metadata
from hypergen.training import direct
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer

SHORT = BaselineConfig.of(target="mlp", epochs=2)


def weights(module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.fixture
def alone(few, few_large, cpu):
    """The weights of a network trained by itself in memory."""

    def train(config: BaselineConfig) -> torch.Tensor:
        images = few if config.target == "mlp" else few_large
        return weights(train_direct(DirectTrainer(config, images, cpu)))

    return train


class Interrupting(Progress):
    """A training that is interrupted after so many steps."""

    def __init__(self, after: int):
        self.left = after

    def advance(self, count: int = 1, metrics: str = "") -> None:
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_of_a_generator_is_no_direct_training(resume, few, cpu, tmp_path):
    trainer = Trainer(TrainConfig.of(target="mlp", population=2), few, cpu)
    config = {"config": asdict(trainer.config)}
    checkpoint.save(tmp_path / CHECKPOINT, trainer.state_dict() | config)
    with pytest.raises(InputError, match="holds a run, no direct training"):
        train_baseline(SHORT, few, tmp_path, cpu, resume=resume)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "small-lenet5"},  # it has dropout
        {"ema_decay": 0.9},
        {"activation": "kwta-0.1", "share_start": 0.5, "epochs": 6},  # killed while it falls
    ],
    ids=str,
)
def test_a_training_continued_is_one_never_stopped(options, few, few_large, cpu, tmp_path, alone):
    config = SHORT.replace(**{"epochs": 3} | options)
    few = few if config.target == "mlp" else few_large
    with pytest.raises(KeyboardInterrupt):
        train_baseline(config, few, tmp_path, cpu, progress=Interrupting(8))  # in the third epoch
    begun = checkpoint.load(tmp_path / CHECKPOINT)
    assert begun["epoch"] == 2  # the first two are not trained again
    torch.manual_seed(77)
    done = train_baseline(config, few, tmp_path, cpu, resume=True)
    assert weights(done.network).equal(alone(config))


def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(few, cpu, tmp_path, alone):
    config = SHORT.replace(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train_baseline(config, few, tmp_path, cpu, progress=Interrupting(8))
    saved = tmp_path / CHECKPOINT
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="the checkpoint before it, is used"):
        done = train_baseline(config, few, tmp_path, cpu, resume=True)
    assert weights(done.network).equal(alone(config))
    assert [path.name for path in tmp_path.iterdir()] == [NETWORK]


@pytest.fixture
def two_cores():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_several_at_once_are_those_trained_alone(few_large, cpu, tmp_path, two_cores, alone):
    """With dropout, of which each training has its own; one that was cut short goes on."""
    config = BaselineConfig.of(target="small-lenet5", epochs=2)
    recipes = {
        tmp_path / f"{n}.safetensors": replace(config, method=method, seed=n)
        for n, method in enumerate(("standard", "fbf", "fbf", "standard"))
    }
    there, begun, *_ = recipes
    there.write_bytes(b"not to be touched")
    torch.set_num_threads(1)  # as each of several has, for sums of another order round otherwise
    trainer = DirectTrainer(recipes[begun], few_large, cpu)
    trainer.advance()
    saved = begun.with_suffix(".checkpoint.safetensors")
    checkpoint.save(saved, trainer.state_dict())
    torch.set_num_threads(2)
    gradients = 1 + 2 + 2  # of the files that are left; a gradient costs three forward passes
    assert cost_left(recipes, few_large) == 3 * gradients * 2 * len(few_large.train)  # 2 epochs
    train_baselines(recipes, few_large, cpu)
    assert there.read_bytes() == b"not to be touched" and not saved.exists()
    assert cost_left(recipes, few_large) == 0
    torch.set_num_threads(1)
    for path, recipe in list(recipes.items())[1:]:
        assert weights(load_network(path)).equal(alone(recipe))


def test_a_single_one_gets_all_cores(few, cpu, tmp_path, two_cores, monkeypatch):
    threads, whole = [], direct.validate

    def validate(*args):
        threads.append(torch.get_num_threads())
        return whole(*args)

    monkeypatch.setattr(direct, "validate", validate)
    for count in (1, 2):
        recipes = {tmp_path / f"{count}-{n}.safetensors": SHORT for n in range(count)}
        train_baselines(recipes, few, cpu)
    assert threads == [2] * 2 + [1] * 2 * 2


def test_when_one_of_several_fails_the_others_stop(few, cpu, tmp_path, two_cores):
    config = replace(SHORT, method="standard", learning_rate=1e29)
    recipes = {
        tmp_path / "diverges.safetensors": config,
        tmp_path / "long.safetensors": replace(SHORT, epochs=100_000),
    }
    with pytest.raises(RunError, match="diverged"):
        train_baselines(recipes, few, cpu)
    assert not any(path.exists() for path in recipes)


def test_alongside_a_body_that_ends_well_both_end(few, cpu, tmp_path, two_cores, alone):
    recipes = {tmp_path / f"{n}.safetensors": replace(SHORT, seed=n) for n in range(2)}
    with trained_alongside(recipes, few, cpu):
        assert alone(SHORT).isfinite().all()
    assert all(path.exists() for path in recipes)
    torch.set_num_threads(1)
    for path, recipe in recipes.items():
        assert weights(load_network(path)).equal(alone(recipe))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError])
def test_alongside_a_body_that_fails_they_stop(few, cpu, tmp_path, two_cores, error):
    recipes = {
        tmp_path / f"{n}.safetensors": replace(SHORT, epochs=100_000, seed=n) for n in range(2)
    }
    with pytest.raises(error), trained_alongside(recipes, few, cpu):
        raise error
    assert not any(path.exists() for path in recipes)


def test_alongside_a_body_they_stop_whose_start_was_interrupted(few, cpu, tmp_path, monkeypatch):
    usual = ThreadPoolExecutor.submit

    def submit(pool, *job):
        usual(pool, *job)
        if job[0] is train_baselines:
            raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    recipes = {tmp_path / "a.safetensors": replace(SHORT, epochs=100_000)}
    with pytest.raises(KeyboardInterrupt), trained_alongside(recipes, few, cpu):
        pass


def test_alongside_a_body_their_failure_is_told(few, cpu, tmp_path, two_cores):
    config = replace(SHORT, method="standard", learning_rate=1e29)
    recipes = {tmp_path / "diverges.safetensors": config}
    with pytest.raises(RunError, match="diverged"), trained_alongside(recipes, few, cpu):
        pass


def test_the_folder_is_resumed_by_its_own_settings_alone(few, cpu, tmp_path, alone):
    trainer = DirectTrainer(SHORT, few, cpu)
    trainer.advance()
    assert 0 < trainer.seconds < 60
    trainer.seconds += 1000  # of before the stop
    checkpoint.save(tmp_path / CHECKPOINT, trainer.state_dict())
    with pytest.raises(InputError, match="holds a training cut short; add `resume`"):
        train_baseline(SHORT, few, tmp_path, cpu)
    with pytest.raises(InputError, match="was started with other settings: seed: 0, not 1"):
        train_baseline(replace(SHORT, seed=1), few, tmp_path, cpu, resume=True)
    done = train_baseline(SHORT, few, tmp_path, cpu, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == {NETWORK}
    assert done.file == tmp_path / NETWORK and weights(done.network).equal(alone(SHORT))
    images, labels = few.test.first(len(few.test))
    share = (load_network(done.file)(images).argmax(1) == labels).double().mean()
    assert done.accuracy == pytest.approx(float(share))
    metadata = read_metadata(done.file)
    assert metadata["accuracy"] == done.accuracy and "CPU" in metadata["trained_on"]
    assert trainer.seconds < metadata["seconds_trained"] < trainer.seconds + 60
    with pytest.raises(InputError, match="exists; choose another `out`"):
        train_baseline(SHORT, few, tmp_path, cpu, resume=True)


def test_an_interrupted_training_keeps_whole_epochs_alone(few, cpu, tmp_path):
    out = tmp_path / "training"
    with pytest.raises(KeyboardInterrupt):
        train_baseline(SHORT, few, out, cpu, progress=Interrupting(1))
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt):
        train_baseline(SHORT, few, out, cpu, progress=Interrupting(4))
    assert [path.name for path in out.iterdir()] == [CHECKPOINT]
    train_baseline(SHORT, few, out, cpu, resume=True)
    assert len(read_metadata(out / NETWORK)["sessions"]) == 2


def test_of_two_trainings_into_one_folder_the_second_is_refused(few, cpu, tmp_path, monkeypatch):
    """Though it had looked before the first began, as while its data load slowly."""
    whole, first = baseline._require_begun, []

    def slow(out, config, resume):
        whole(out, config, resume)
        if not first:
            first.append(None)
            train_baseline(replace(SHORT, method="standard"), few, out, cpu)

    monkeypatch.setattr(baseline, "_require_begun", slow)
    with pytest.raises(InputError, match="exists; choose another `out`"):
        train_baseline(SHORT, few, tmp_path, cpu)
    assert read_metadata(tmp_path / NETWORK)["method"] == "standard"


def test_plain_pytorch_opens_the_file(few, cpu, tmp_path):
    config = BaselineConfig.of(target="fbf-cnn", image_size=8, epochs=1, ema_decay=0.5)
    module = train_direct(DirectTrainer(config, few, cpu))
    path = tmp_path / "net.safetensors"
    save_baseline(path, module, config, few)
    plain = targets.build("fbf-cnn", input_shape=few.input_shape)
    plain.load_state_dict(safetensors.torch.load_file(path), strict=True)
    images, _ = few.test.first(50)
    assert plain.eval()(images).equal(module(images))
    assert load_network(path)(images).equal(module(images))
    metadata = read_metadata(path)
    assert (metadata["method"], metadata["epsilon"], metadata["dataset"]) == ("fbf", 0.1, "digits")
    assert metadata["ema_decay"] == 0.5
    assert BaselineConfig.from_tree(metadata["config"], "it") == config
    assert metadata["gradient_evaluations"] == 2 * len(few.train)
    assert "seconds_trained" not in metadata
    require_trained_by(path, config, few)
    with pytest.raises(InputError, match="with other settings: ema_decay: 0.5, not 0.9"):
        require_trained_by(path, replace(config, ema_decay=0.9), few)


def test_stopped_trainings_end_within_a_step(few, cpu, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunError, match="stopped"):
        train_baselines({tmp_path / "x.safetensors": SHORT}, few, cpu, stop, SILENT)
    assert not (tmp_path / "x.safetensors").exists()


def test_only_networks_for_imagenet_start_pretrained(few, cpu, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(targets.TargetError, match="mlp has no pretrained weights"):
        train_baseline(replace(SHORT, pretrained=True), few, out, cpu)
    assert not out.exists()
