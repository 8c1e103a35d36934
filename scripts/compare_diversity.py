"""What keeps the samples of one generator apart, and what it costs.

Every way is trained alike (same objective, steps and seed) and judged alike: accuracy, PGD-50,
how much two samples differ (classes on clean images, errors in common, transfer of attacks,
weights with hidden units matched), and what ten of them reach by voting. Ways that were not taken
are defined here and nowhere else. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare_diversity
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import attacks
from hypergen import data, objective, train
from hypergen.baseline import BaselineConfig, train_baseline
from hypergen.config import TrainConfig
from hypergen.diversity import differences, weight_distance
from hypergen.evaluate import Judge
from hypergen.generator import ResidualGenerator
from hypergen.transfer import Mixed, carried_over, fooling_rates
from scripts.cells import RESULTS, claim, publish, require_start, rows, run
from targets import Ensemble, Population

STARTS = 8
REPULSION = 0.1


@dataclass(frozen=True)
class CompareConfig:
    """What is trained, and how it is judged."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig(dataset="mnist", steps=1000))
    """settings shared by all ways"""
    samples: int = 10
    """networks drawn of each"""
    images: int = 500
    """test images attacked; accuracy and disagreement are over all"""
    fbf: int = 3
    """independent FBF networks beside them"""
    fbf_epochs: int = 10
    """of their training"""
    only: tuple[str, ...] = ()
    """names of the ways to compare now, beside those run before; default: all"""
    work: Path = Path("runs/compare-diversity")
    """folder of the figures of each way"""
    out: Path = RESULTS / "diversity.json"
    """the table as JSON"""


class MixtureGenerator(ResidualGenerator):
    """Eight starts of their own, trained apart; the first number of z chooses one."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        size = 3**-0.5  # that of PyTorch's own initialisation
        apart = size * self.scale * torch.randn(STARTS, len(self.scale))
        self.starts = nn.Parameter(apart)

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        rank = torch.distributions.Normal(0.0, 1.0).cdf(z[:, 0])
        which = (rank * STARTS).long().clamp(0, STARTS - 1)
        return super().forward(z, beta) + self.starts[which]


class LearnedMapGenerator(ResidualGenerator):
    """The fixed map of z, trained like everything else."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        start = self.fixed
        del self.fixed
        self.fixed = nn.Parameter(start)  # pyright: ignore


@contextlib.contextmanager
def generator(kind: type[ResidualGenerator]) -> Iterator[None]:
    """Within, training builds this kind."""
    with mock.patch("hypergen.generator.ResidualGenerator", kind):
        yield


@contextlib.contextmanager
def repulsion() -> Iterator[None]:
    """Within, weight vectors push each other away as in SVGD (Liu, Wang 2016), median bandwidth."""
    plain = objective.gradient

    def gradient(kind: str, population: Population, *rest: Any) -> tuple[Tensor, Tensor]:
        losses, found = plain(kind, population, *rest)
        scaled = population.theta / population.layout.scales()
        between = scaled[:, None] - scaled[None]
        squared = between.square().sum(-1)
        bandwidth = squared[squared > 0].median().clamp_min(1e-12)
        kernel = (-squared / bandwidth).exp()
        push = -(kernel[..., None] * between).mean(1) / bandwidth.sqrt()
        size = found.norm(dim=1, keepdim=True) / push.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return losses, found + REPULSION * size * push

    with mock.patch.object(objective, "gradient", gradient):
        yield


WAYS: dict[str, tuple[float, Callable[[], contextlib.AbstractContextManager[None]]]] = {
    "nothing": (0.0, contextlib.nullcontext),
    "repulsion of weights": (0.0, repulsion),
    "eight starts": (0.0, lambda: generator(MixtureGenerator)),
    "learned map 0.5": (0.5, lambda: generator(LearnedMapGenerator)),
    "learned map 1": (1.0, lambda: generator(LearnedMapGenerator)),
    "fixed map 0.25": (0.25, contextlib.nullcontext),
    "fixed map 0.5": (0.5, contextlib.nullcontext),
    "fixed map 1": (1.0, contextlib.nullcontext),
}
"""Name -> (diversity, what else is different)."""


def figures(population: Population, config: CompareConfig, dataset: data.Dataset) -> dict[str, Any]:
    """All that is said of one population."""
    threat = config.train.threat
    judge = Judge(threat, "pgd", restarts=1, images=config.images, seed=config.train.seed)
    rows = judge.judge(population, dataset, "networks")
    (voted,) = judge.judge(Ensemble(population), dataset, "together")
    pgd = attacks.PGD(threat, steps=20)
    alone = Mixed([population.module_at(i) for i in range(len(population))], torch.device("cpu"))
    fooled = fooling_rates(alone, pgd, dataset, config.images, config.train.seed)[1]
    return {
        "count": len(population),
        "accuracy": statistics.fmean(row["accuracy"] for row in rows),
        "pgd": statistics.fmean(row["pgd"] for row in rows),
        "worst_pgd": min(row["pgd"] for row in rows),
        "voting": {"accuracy": voted["accuracy"], "pgd": voted["pgd"]},
        "best": {name: max(row[name] for row in rows) for name in ("accuracy", "pgd")},
        **differences(population, *dataset.test.first(10_000)),
        "transfer": carried_over(fooled),
        "weight_distance": dict(
            zip(("before", "matched"), weight_distance(population), strict=True)
        ),
    }


def generated(name: str, config: CompareConfig, dataset: data.Dataset) -> Population:
    """Samples of a generator trained in the named way."""
    diversity, different = WAYS[name]
    settings = replace(config.train, diversity=diversity)
    with different():
        training = train.Training(settings, dataset, torch.device("cpu"))
        while training.step < settings.steps:
            training.advance()
        return training.sample(config.samples, settings.seed + 1)


def independent(config: CompareConfig, dataset: data.Dataset) -> Population:
    """FBF networks of different seeds."""
    recipes = [
        BaselineConfig(
            dataset=config.train.dataset,
            target=config.train.target,
            activation=config.train.activation,
            epsilon=config.train.epsilon,
            epochs=config.fbf_epochs,
            seed=seed,
        )
        for seed in range(config.fbf)
    ]
    device = torch.device("cpu")
    return Population.of(train_baseline(r, dataset, device, show=False) for r in recipes)


def main(config: CompareConfig) -> None:
    """Trains and judges every way, prints the table and writes it."""
    require_start(config.train)
    settings = claim(config.work, config)
    dataset = data.load(config.train.dataset)

    def row(name: str) -> dict[str, Any]:
        made = independent(config, dataset) if name == "fbf" else generated(name, config, dataset)
        return figures(made, config, dataset)

    found, failed = rows(config, (*WAYS, "fbf"), row)
    heads = (("accuracy", 10), ("PGD-50", 8), ("disagree", 10), ("overlap", 9), ("transfer", 10))
    print(f"\n{'':<22}" + "".join(f"{h:>{w}}" for h, w in heads) + f"{'weights':>9}{'voting':>16}")
    for name, way in found.items():
        shown = [way[k] for k in ("accuracy", "pgd", "disagreement", "error_overlap", "transfer")]
        cells = "".join(f"{100 * v:>{w}.2f}" for v, (_, w) in zip(shown, heads, strict=True))
        voting = f"{100 * way['voting']['accuracy']:.2f} / {100 * way['voting']['pgd']:.1f}"
        print(f"{name:<22}{cells}{way['weight_distance']['matched']:>9.2f}{voting:>16}")
    publish(config.out, settings, {"ways": found}, failed)


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
