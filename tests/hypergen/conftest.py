from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import attacks
import targets
from hypergen import data, train
from hypergen.baseline import BaselineConfig, save_baseline, train_baseline
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.generator import PublishedGenerator
from hypergen.report import ReportConfig
from targets import Population


@pytest.fixture(scope="session", autouse=True)
def brief() -> Iterator[None]:
    """The standard suite, much shortened: its budgets are tested with the attacks."""
    short = partial(attacks.standard, steps=5, queries=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "standard", short)
        patch.setitem(attacks.ATTACKS, "standard", short)
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def there(digits, device) -> Dataset:
    """Digits on the device."""
    parts = {name: getattr(digits, name).to(device) for name in ("train", "val", "test")}
    return replace(digits, **parts)


@pytest.fixture(scope="session")
def few(digits) -> Dataset:
    """Digits with 300 training images."""
    return replace(digits, train=data.Split(*(t[:300] for t in vars(digits.train).values())))


@pytest.fixture
def tiny(monkeypatch) -> TrainConfig:
    """A configuration that trains in a second; the run is not watched, which would take longer."""
    monkeypatch.setattr(train, "WATCHED_SHARE", 1e9)
    monkeypatch.setattr(train, "VALUE_PRETRAINING_STEPS", 3)
    monkeypatch.setattr(PublishedGenerator.pretrain, "__defaults__", (3,))
    return TrainConfig(
        target="mlp",
        steps=6,
        population=2,
        batch_size=16,
        measure_every=2,
        replay=6,
        value_steps=2,
    )


@pytest.fixture
def small_report() -> ReportConfig:
    return ReportConfig(samples=2, images=20, sra_samples=0)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture(scope="session")
def base(few, tmp_path_factory) -> Path:
    """The weight file of an ordinarily trained mlp."""
    recipe = BaselineConfig(method="standard", target="mlp", epochs=4)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_baseline(path, train_baseline(recipe, few, torch.device("cpu"), show=False), recipe)
    return path


@pytest.fixture
def networks() -> list[nn.Module]:
    """Three fresh mlps."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return [targets.build("mlp").eval() for _ in range(3)]


@pytest.fixture
def population(networks) -> Population:
    return Population.of(networks)


@pytest.fixture
def in_training() -> Callable[[nn.Module], nn.Module]:
    """Puts a module into training mode but for dropout, which no population has."""

    def switch(module: nn.Module) -> nn.Module:
        for layer in module.train().modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
        return module

    return switch
