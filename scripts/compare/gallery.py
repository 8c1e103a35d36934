"""Networks of every quality, measured once: what value networks are fitted to and asked about."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments.base import direct_recipe
from hypergen.models.bundle import fresh_target
from hypergen.storage import checkpoint
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.trainer import Trainer
from scripts.common import RESULTS
from targets import Population

CPU = torch.device("cpu")
NOISE = 0.05, 0.1, 0.2, 0.4, 0.8
"""Sizes of the noise around FBF networks, relative to a layer's typical weight."""


@dataclass(frozen=True)
class CompareConfig:
    """What the gallery holds, how it is measured, and how value networks are fitted."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig.of(dataset="mnist", epsilon=0.2, steps=400)
    )
    """settings shared by all runs"""
    objectives: tuple[str, ...] = ("direct", "value", "direct", "value")
    """of the runs, each with a seed of its own; the first two are fitted to"""
    ages: int = 8
    """how often a run is sampled on its way"""
    samples: int = 5
    """networks drawn each time"""
    fbf: int = 3
    """seeds of FBF"""
    epochs: tuple[int, ...] = (1, 2, 4)
    """of FBF"""
    radii: tuple[float, ...] = (0.5, 1.0)
    """of FBF, relative to the radius judged"""
    images: int = 100
    """test images for SRA; accuracy is over all"""
    seen: int = 512
    """validation images that a value network looks at"""
    steps: int = 1000
    """of fitting"""
    work: Path = Path("runs/compare-value-networks")
    """folder of the measured networks"""
    out: Path = RESULTS / "value_networks.json"
    """the table as JSON"""


@dataclass(frozen=True)
class Group:
    """Measured networks of one origin: theta [P,D], accuracy, PGD-50 and SRA [P,3]."""

    theta: Tensor
    figures: Tensor
    seconds: float

    def choose(self, chosen: Tensor) -> "Group":
        """Some of them."""
        return Group(self.theta[chosen], self.figures[chosen], self.seconds)


def generated(config: CompareConfig, seed: int, objective: str, dataset: Dataset) -> Tensor:
    """Samples of a run at several ages [P,D]; its value network stays in the work folder."""
    settings = config.train.replace(seed=seed, objective=objective, measure_every=1)
    trainer = Trainer(settings, dataset, CPU)
    steps = trainer.config.optimisation.length
    ages = {round(steps * (age / config.ages) ** 2) for age in range(1, config.ages + 1)}
    drawn = []
    while trainer.step < steps:
        trainer.advance()
        if trainer.step in ages:
            drawn.append(trainer.sample(config.samples, trainer.step).theta)
    path = config.work / f"value-{seed}.safetensors"
    checkpoint.save(path, trainer.models.value.state_dict())
    return torch.cat(drawn)


def direct_networks(config: CompareConfig, dataset: Dataset) -> Tensor:
    """FBF networks from weak to strong [P,D]."""
    epsilon = config.train.threat.epsilon
    recipes = [
        direct_recipe(config.train, "fbf", seed).replace(epsilon=epsilon * radius, epochs=epochs)
        for seed in range(config.fbf)
        for epochs in config.epochs
        for radius in config.radii
    ]
    networks = [train_direct(DirectTrainer(recipe, dataset, CPU)) for recipe in recipes]
    return Population.of(networks).theta


def with_noise(population: Population, count: int, seed: int) -> Tensor:
    """`count` networks of a population, each with noise of one of the sizes [P,D]."""
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(NOISE)[torch.arange(count) % len(NOISE), None]
    chosen = torch.randint(len(population), (count,), generator=rng)
    noise = torch.randn(count, population.layout.size, generator=rng)
    return population.theta[chosen] + sizes * population.layout.scales() * noise


def target_of(config: CompareConfig, dataset: Dataset) -> nn.Module:
    """A fresh target: what the weights of the gallery are of."""
    return fresh_target(config.train.target, config.train.activation, dataset.info)


def gallery(config: CompareConfig, dataset: Dataset) -> Iterator[tuple[str, Group]]:
    """Every group with its measured figures, made or read from the work folder."""
    module = target_of(config, dataset)
    evaluator = Evaluator(config.train.threat, "standard", restarts=1, images=config.images)
    fbf = Population.of([module])
    names = [f"run {seed}" for seed in range(len(config.objectives))]
    for name in [*names, "fbf", "fbf + noise"]:
        path = config.work / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            if name == "fbf":
                theta = direct_networks(config, dataset)
            elif name == "fbf + noise":
                theta = with_noise(fbf, 6 * len(NOISE), config.train.optimisation.seed)
            else:
                seed = names.index(name)
                theta = generated(config, seed, config.objectives[seed], dataset)
            start = time.process_time()
            rows = evaluator.evaluate(Population(module, theta), dataset)
            seconds = (time.process_time() - start) / len(rows)  # of accuracy and PGD-50 too
            figures = torch.tensor([[row[n] for n in ("accuracy", "pgd", "sra")] for row in rows])
            checkpoint.save(path, {"theta": theta, "figures": figures, "seconds": seconds})
        group = Group(**checkpoint.load(path))
        if name == "fbf":
            fbf = Population(module, group.theta)
        yield name, group
