import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import attacks
import targets
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.data import Dataset, Split
from hypergen.experiments.baseline import save_baseline
from hypergen.experiments.run_folder import ReportConfig
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from targets import Population
from tests.registries import registries_kept


class Forbidden(Split):
    """A split whose images must not be looked at."""

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        raise AssertionError("looked at")

    def head(self, count: int) -> Split:
        raise AssertionError("looked at")


@pytest.fixture
def forbid() -> Callable[[Split], Split]:
    """Makes a split that must not be looked at."""
    return lambda split: Forbidden(split.images, split.labels)


@pytest.fixture(scope="session", autouse=True)
def brief() -> Iterator[None]:
    """The standard suite, much shortened: its budgets are tested with the attacks."""
    short = partial(attacks.standard, steps=5, queries=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "standard", short)
        patch.setitem(attacks.ATTACKS, "standard", short)
        yield


@pytest.fixture
def rough_pictures(monkeypatch) -> None:
    """Pictures are of few dots and as they stand: to lay them out takes longer than many a run.

    What is in them is tested with the report.
    """
    draw = Figure.savefig

    def savefig(figure: Figure, *args: Any, **options: Any) -> None:
        figure.set_layout_engine("none")
        draw(figure, *args, **options | {"dpi": 20})

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """Afterwards nothing that a test registered, or loaded as a plugin, is there."""
    with registries_kept():
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """Digits of 8 x 8 pixels, as scikit-learn has them.

    An mlp for them has a tenth of the weights that one for the enlarged digits has, and a generator
    of it takes a fraction of the time.
    """
    return data.load("digits", image_size=8)


@pytest.fixture(scope="session")
def large_digits() -> Dataset:
    """Digits of 28 x 28 pixels, for networks that want so many."""
    return data.load("digits")


@pytest.fixture(scope="session")
def digits_on_device(digits, device) -> Dataset:
    """Digits on the device."""
    return digits.to(device)


@pytest.fixture(scope="session")
def few(digits) -> Dataset:
    """Digits with 300 training images."""
    return replace(digits, train=digits.train.head(300))


@pytest.fixture(scope="session")
def few_large(large_digits) -> Dataset:
    """Large digits with 300 training images."""
    return replace(large_digits, train=large_digits.train.head(300))


@pytest.fixture
def fresh_mlp(few) -> nn.Module:
    """An mlp to start from."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return targets.build("mlp", input_shape=few.input_shape)


@pytest.fixture
def fresh_base(fresh_mlp, few, tmp_path) -> Path:
    """The weight file of that mlp, as if it had been trained."""
    path = tmp_path / "fresh-base.safetensors"
    config = BaselineConfig.of(method="standard", target="mlp", image_size=8)
    save_baseline(path, fresh_mlp, config, few)
    return path


@pytest.fixture(scope="session")
def tiny() -> TrainConfig:
    """A configuration that trains in a second; nothing is compared with SRA, which takes longer."""
    return TrainConfig.of(
        target="mlp",
        image_size=8,
        steps=6,
        population=2,
        batch_size=16,
        measure_every=2,
        replay_size=6,
        value_steps=2,
        max_robustness_gap=1.0,
    )


@pytest.fixture
def small_report() -> ReportConfig:
    return ReportConfig(samples=2, images=20, sra_samples=0)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture(scope="session")
def base_network(few) -> nn.Module:
    """An ordinarily trained mlp."""
    recipe = BaselineConfig.of(method="standard", target="mlp", image_size=8, epochs=24)
    return train_direct(DirectTrainer(recipe, few, torch.device("cpu")))


@pytest.fixture(scope="session")
def base(base_network, few, tmp_path_factory) -> Path:
    """The weight file of an ordinarily trained mlp."""
    recipe = BaselineConfig.of(method="standard", target="mlp", image_size=8, epochs=24)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_baseline(path, base_network, recipe, few)
    return path


@pytest.fixture
def networks(digits) -> list[nn.Module]:
    """Three fresh mlps for digits."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return [targets.build("mlp", input_shape=digits.input_shape).eval() for _ in range(3)]


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


@pytest.fixture
def precisions(monkeypatch) -> Iterator[list[str]]:
    """What a GPU would multiply with, "tf32" or "ieee", in each call of a population.

    TF32 is switched on, as PyTorch does where nobody says otherwise.
    """
    used, whole, matmul = [], Population.__call__, torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"

    def call(population: Population, images: torch.Tensor) -> torch.Tensor:
        used.append(matmul.fp32_precision)
        return whole(population, images)

    monkeypatch.setattr(Population, "__call__", call)
    yield used
    matmul.fp32_precision = before


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a fresh PostgreSQL server; skips where Debian's package is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    options: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    if os.geteuid() == 0:  # as whom the server refuses to run
        shutil.chown(folder, "postgres", "postgres")
        options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, bin_folder = folder / "data", programs[-1]
    made = "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"
    server = "pg_ctl", "-D", data, "-w", "-l", folder / "log.txt"
    where = f"-k {folder} -c listen_addresses= -c fsync=off"
    subprocess.run([bin_folder / made[0], *made[1:]], **options)
    subprocess.run([bin_folder / server[0], *server[1:], "-o", where, "start"], **options)
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run([bin_folder / server[0], *server[1:], "-m", "immediate", "stop"], **options)
        shutil.rmtree(folder)
