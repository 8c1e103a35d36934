"""What keeps the samples of one generator apart, and what it costs.

Every variant is trained alike (same objective, steps and seed) and judged alike: accuracy, PGD-50,
how much two samples differ (classes on clean images, errors in common, transfer of attacks,
weights with hidden units matched), and what ten of them reach by voting, beside the best of them in
hindsight: in each figure the highest, chosen on the test images themselves. Variants that were not
taken are defined here and nowhere else. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare.diversity
"""

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attacks
from hypergen import data
from hypergen.catalog import GENERATORS
from hypergen.config import TrainConfig
from hypergen.evaluation.diversity import pairwise_differences, weight_distance
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.transfer import MixedPopulation, carried_over, fooling_rates
from hypergen.experiments.base import direct_recipe
from hypergen.measures import Batch
from hypergen.models.generator import ResidualGenerator
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.learner import Learner
from hypergen.training.trainer import Trainer
from scripts.common import RESULTS, ensure_same_settings, load, publish, require_start, rows, run
from scripts.generators import with_dense_head
from targets import Ensemble, Population

CPU = torch.device("cpu")
STARTS = 8
REPULSION = 0.1


@dataclass(frozen=True)
class CompareConfig:
    """What is trained, and how it is judged."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig.of(dataset="mnist", steps=1000))
    """settings shared by all variants"""
    samples: int = 10
    """networks drawn of each"""
    images: int = 500
    """test images attacked; accuracy and disagreement are over all"""
    fbf: int = 3
    """independent FBF networks beside them"""
    fbf_epochs: int = 10
    """of their training"""
    only: tuple[str, ...] = ()
    """names of the variants to compare now, beside those run before; default: all"""
    work: Path = Path("runs/compare-diversity")
    """folder of the figures of each variant"""
    out: Path = RESULTS / "diversity.json"
    """the table as JSON"""


class MixtureGenerator(ResidualGenerator):
    """Eight starts of their own, trained apart; the first number of z chooses one."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        size = 3**-0.5  # that of PyTorch's own initialisation
        self.starts = nn.Parameter(size * self.scale * torch.randn(STARTS, len(self.scale)))

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        rank = torch.distributions.Normal(0.0, 1.0).cdf(z[:, 0])
        which = (rank * STARTS).long().clamp(0, STARTS - 1)
        return super().forward(z, beta) + self.starts[which]


class LearnedMapGenerator(ResidualGenerator):
    """The random prior, trained like everything else."""

    constants = ("scale",)

    def __init__(self, *args: Any):
        super().__init__(*args)
        start = self.random_prior
        del self.random_prior
        self.random_prior = nn.Parameter(start)  # pyright: ignore


GENERATORS.register("eight-starts")(with_dense_head(MixtureGenerator))
GENERATORS.register("learned-map")(with_dense_head(LearnedMapGenerator))


class RepellingLearner(Learner):
    """Weight vectors push each other away as in SVGD (Liu, Wang 2016), with a median bandwidth."""

    def gradient(self, theta: Tensor, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, gradient = super().gradient(theta, weights, batch)
        scaled = theta / self.network.layout.scales().to(theta)
        between = scaled[:, None] - scaled[None]
        squared = between.square().sum(-1)
        bandwidth = squared[squared > 0].median().clamp_min(1e-12)
        kernel = (-squared / bandwidth).exp()
        push = -(kernel[..., None] * between).mean(1) / bandwidth.sqrt()
        size = gradient.norm(dim=1, keepdim=True) / push.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return losses, gradient + REPULSION * size * push


@dataclass(frozen=True)
class Variant:
    """A way to keep samples apart: a generator, and what gives it its gradient."""

    prior_scale: float = 0.0
    generator: str = "auto"
    learner: type[Learner] = Learner


VARIANTS = {
    "nothing": Variant(),
    "repulsion of weights": Variant(learner=RepellingLearner),
    "eight starts": Variant(generator="eight-starts"),
    "learned map 0.5": Variant(0.5, "learned-map"),
    "learned map 1": Variant(1.0, "learned-map"),
    "fixed map 0.25": Variant(0.25),
    "fixed map 0.5": Variant(0.5),
    "fixed map 1": Variant(1.0),
}
"""By the names that they were published by; a fixed map is the random prior."""


def figures(population: Population, config: CompareConfig, dataset: data.Dataset) -> dict[str, Any]:
    """All that is said of one population; "best" is in hindsight, chosen on these test images."""
    threat, seed = config.train.threat, config.train.optimisation.seed
    evaluator = Evaluator(threat, "pgd", restarts=1, images=config.images, seed=seed)
    networks = evaluator.evaluate(population, dataset)
    (voted,) = evaluator.evaluate(Ensemble(population), dataset)
    pgd = attacks.PGD(threat, steps=20)
    fooled = fooling_rates(
        MixedPopulation(list(population), CPU), pgd, dataset, config.images, seed
    )[1]
    before, matched = weight_distance(population)
    return {
        "count": len(population),
        "accuracy": statistics.fmean(row["accuracy"] for row in networks),
        "pgd": statistics.fmean(row["pgd"] for row in networks),
        "worst_pgd": min(row["pgd"] for row in networks),
        "voting": {"accuracy": voted["accuracy"], "pgd": voted["pgd"]},
        "best": {name: max(row[name] for row in networks) for name in ("accuracy", "pgd")},
        **pairwise_differences(population, *dataset.test.first(10_000)),
        "transfer": carried_over(fooled),
        "weight_distance": {"before": before, "matched": matched},
    }


def generated(name: str, config: CompareConfig, dataset: data.Dataset) -> Population:
    """Samples of a generator trained as the named variant says."""
    variant = VARIANTS[name]
    settings = config.train.replace(prior_scale=variant.prior_scale, generator=variant.generator)
    trainer = Trainer(settings, dataset, CPU)
    models = trainer.models
    trainer.learner = variant.learner(
        *(settings.objective.kind, trainer.measures, models.target, models.value),
        trainer.precision,
    )
    while trainer.step < trainer.config.optimisation.length:
        trainer.advance()
    return trainer.sample(config.samples, settings.optimisation.seed + 1)


def independent(config: CompareConfig, dataset: data.Dataset) -> Population:
    """FBF networks of different seeds."""
    recipes = [
        direct_recipe(config.train, "fbf", seed).replace(epochs=config.fbf_epochs)
        for seed in range(config.fbf)
    ]
    return Population.of(train_direct(DirectTrainer(recipe, dataset, CPU)) for recipe in recipes)


def main(config: CompareConfig) -> None:
    """Trains and judges every variant, prints the table and writes it."""
    require_start(config.train)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, CPU)

    def row(name: str) -> dict[str, Any]:
        made = independent(config, dataset) if name == "fbf" else generated(name, config, dataset)
        return figures(made, config, dataset)

    found, failed = rows(config, (*VARIANTS, "fbf"), row)
    heads = (("accuracy", 10), ("PGD-50", 8), ("disagree", 10), ("overlap", 9), ("transfer", 10))
    more = f"{'weights':>9}{'voting':>16}{'best in hindsight':>20}"
    print(f"\n{'':<22}" + "".join(f"{h:>{w}}" for h, w in heads) + more)
    for name, each in found.items():
        shown = [each[k] for k in ("accuracy", "pgd", "disagreement", "error_overlap", "transfer")]
        cells = "".join(f"{100 * v:>{w}.2f}" for v, (_, w) in zip(shown, heads, strict=True))
        voting, best = (
            f"{100 * each[kind]['accuracy']:.2f} / {100 * each[kind]['pgd']:.1f}"
            for kind in ("voting", "best")
        )
        print(f"{name:<22}{cells}{each['weight_distance']['matched']:>9.2f}{voting:>16}{best:>20}")
    publish(config.out, settings, {"ways": found}, failed)


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
