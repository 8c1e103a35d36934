import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import targets
from hypergen import catalog
from hypergen.config import TrainConfig
from hypergen.data import DATASETS, Dataset
from hypergen.experiments import run as experiment
from hypergen.experiments.baseline import save_baseline
from hypergen.experiments.evaluate import evaluate_files
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.experiments.run import Run, run
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer


class HastyTrainer(Trainer):
    """Fits the value network and a published generator to the base in three steps each."""

    def __init__(self, config, dataset, device, base=None):
        super().__init__(config, dataset, device, base, pretraining_steps=3)

    def pretrain_value(self, steps: int = 3) -> None:
        super().pretrain_value(steps)


@pytest.fixture(autouse=True)
def _quick_to_draw(rough_pictures) -> None:
    """All that is drawn here is rough."""


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Runs from a base begin at once."""
    monkeypatch.setattr(experiment, "Trainer", HastyTrainer)


@pytest.fixture
def trained(few, cpu, small_report) -> Callable[..., Run]:
    """Runs, or continues, a training; without baselines unless they are asked for."""

    def train(
        config: TrainConfig,
        folder: Path,
        resume: bool = False,
        sizes: ReportConfig = small_report,
        baselines: bool = False,
        dataset: Dataset = few,
    ) -> Run:
        settings = RunSettings(config, dataset.info, sizes, baselines)
        return run(settings, dataset, folder, cpu, resume)

    return train


@pytest.fixture(scope="session")
def ranged_run(few, tmp_path_factory) -> Run:
    """A short run trained for preferences in [0, 0.8]; not to be written to."""
    config = TrainConfig.of(
        target="mlp",
        image_size=8,
        beta="0:0.8",
        steps=25,
        population=2,
        batch_size=16,
        measure_every=1,
        learning_rate=0.02,
        max_robustness_gap=1.0,
    )
    settings = RunSettings(config, few.info, ReportConfig(2, 8, 0), baselines=False)
    folder = tmp_path_factory.mktemp("runs") / "ranged"
    return run(settings, few, folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def saved(few) -> Callable[..., Path]:
    """Writes a fresh network as if it had been trained directly."""

    def write(path: Path, target: str = "mlp", size: float = 1.0, **options) -> Path:
        config = BaselineConfig.of(target=target, image_size=8, **options)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            module = targets.build(target, config.activation, input_shape=few.input_shape)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter *= size
        save_baseline(path, module, config, few)
        return path

    return write


@pytest.fixture
def found(cpu) -> Callable[..., dict[str, Any]]:
    """What an evaluation finds of files."""

    def find(*paths: Path, options: EvaluateConfig, **rest) -> dict[str, Any]:
        return evaluate_files(paths, options, cpu, **rest)

    return find


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is forgotten."""
    kinds = [
        getattr(catalog, name)
        for name in ("TARGETS", "ACTIVATIONS", "ATTACKS", "GENERATORS", "VALUE_NETWORKS")
    ]
    before = {registry: set(registry.names()) for registry in (*kinds, DATASETS)}
    yield
    for registry, names in before.items():
        for name in set(registry.names()) - names:
            registry.drop(name)


@pytest.fixture
def untouched(capfd):
    """Inside, PyTorch is set as few have it; afterwards it is still so and nothing was printed."""

    @contextlib.contextmanager
    def check() -> Iterator[None]:
        torch.manual_seed(99)
        rng, folder, threads = torch.get_rng_state(), os.getcwd(), torch.get_num_threads()
        deterministic = torch.are_deterministic_algorithms_enabled()
        capfd.readouterr()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad():
                yield
                assert not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert torch.get_default_dtype() == torch.float64
            assert torch.get_rng_state().equal(rng)
            assert (os.getcwd(), torch.get_num_threads()) == (folder, threads)
            assert torch.are_deterministic_algorithms_enabled() == deterministic
        finally:
            torch.set_default_dtype(torch.float32)
        assert capfd.readouterr() == ("", "")

    return check
