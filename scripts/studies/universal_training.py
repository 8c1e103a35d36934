"""Does training on universal perturbations help against them? And against attacks of each image?

Universal adversarial training (Shafahi et al. 2020): one perturbation is carried from batch to
batch; each batch moves it a step up the loss, and the weights a step down the loss on the images
that carry it. Beside such networks stand ordinary ones, and FBF at the radius of the threat and at
the wider one that universal perturbations have here (`RADIUS` times as large). Networks are judged
on test images, under perturbations fitted afterwards to each network itself, which training never
saw, and under those fitted to ordinary networks of other seeds.

    HYPERGEN_DATA=... python -m scripts.studies.universal_training
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attacks
from attacks.losses import cross_entropy
from hypergen.analysis.universal import BATCH, FITTED, PASSES, RADIUS, STEP_SIZE, wide
from hypergen.config import DataConfig
from hypergen.data import Dataset
from hypergen.measures.attacked import attack_population, predictions
from hypergen.report.tables import Table, percent
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.recipes import PEAK_AT
from scripts.common import RESULTS, device, ensure_same_settings, load, publish, rows, run
from targets import Population

KINDS = {
    "ordinary": {"method": "standard"},
    "universal": {"method": "standard"},
    "FBF": {"method": "fbf"},
    f"FBF, {RADIUS:g} epsilon": {"method": "fbf", "epsilon_factor": RADIUS},
}
"""What is trained, and by which settings; "universal" carries a perturbation."""
FIGURES = {
    "accuracy": "clean",
    "attacked": "PGD",
    "own": "own universal",
    "ordinary": "of ordinary",
    "random": "random",
}
"""Shares of test images that stay right, and the heads of their columns."""


@dataclass(frozen=True)
class StudyConfig:
    """What is trained and how it is judged."""

    quick: bool = False
    """networks and images cut down to half a minute on one core"""
    data: DataConfig = field(default_factory=lambda: DataConfig("mnist"))
    target: str = "small-lenet5"
    """architecture"""
    networks: int = 3
    """of each kind: their seeds"""
    epochs: int = 3
    """passes over the training images"""
    fits: int = 3
    """universal perturbations that are fitted to each network, by as many seeds"""
    images: int = 1000
    """test images"""
    only: tuple[str, ...] = ()
    """kinds to do now, beside those done before; default: all"""
    work: Path = Path("runs/universal-training")
    """folder of the figures of each kind"""
    out: Path = RESULTS / "universal_training.json"
    """the figures as JSON"""


QUICK = StudyConfig(
    quick=True, data=DataConfig("digits", 8), target="mlp", networks=2, epochs=20, images=100
)


@dataclass
class Carried:
    """An attack of training alone: one perturbation, which every batch moves and gets.

    perturbation: [1,C,H,W], once there was a batch.
    """

    threat: attacks.Threat
    perturbation: Tensor | None = None

    def perturb(
        self, model: attacks.Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
    ) -> Tensor:
        """Images [1,B,C,H,W] of labels [B] with the perturbation, after its step."""
        before = torch.zeros_like(images[:, 0]) if self.perturbation is None else self.perturbation
        points = attacks.perturbed(images, before)

        def loss(logits: Tensor) -> Tensor:
            return cross_entropy(logits, labels)

        total = attacks.differentiate(model, points, loss)[2].sum(1, keepdim=True)
        step = self.threat.step(total, STEP_SIZE * self.threat.epsilon)[:, 0]
        self.perturbation = self.threat.into_ball(before + step)
        return attacks.perturbed(images, self.perturbation)


class UniversalTrainer(DirectTrainer):
    """Trains on images that carry a universal perturbation, in a ball that grows as FBF's does."""

    def __init__(self, config: BaselineConfig, dataset: Dataset, device: torch.device):
        super().__init__(config, dataset, device)
        self.threat = wide(config.threat)
        self.carried = Carried(self.threat)

    def take_step(self, images: Tensor, labels: Tensor, attack: Any, rate: float) -> Tensor:
        """As an ordinary training's, but on perturbed images."""
        share = min(self.step / self.steps / PEAK_AT, 1)
        self.carried.threat = replace(self.threat, epsilon=share * self.threat.epsilon)
        return super().take_step(images, labels, self.carried, rate)  # pyright: ignore


def network(config: StudyConfig, kind: str, seed: int, dataset: Dataset) -> nn.Module:
    """A trained network; of its epochs that which does best on validation images."""
    recipe = BaselineConfig(
        data=config.data, target=config.target, epochs=config.epochs, seed=seed, **KINDS[kind]
    )
    make = UniversalTrainer if kind == "universal" else DirectTrainer
    return train_direct(make(recipe, dataset, device()))


def fitted(population: Population, config: StudyConfig, dataset: Dataset) -> Tensor:
    """Universal perturbations [S,P,C,H,W] made of training images, one for each seed."""
    images, labels = dataset.train.first(FITTED)
    threat = wide(BaselineConfig(data=config.data).threat)
    attack = attacks.UniversalGradient(threat, PASSES, batch=BATCH, step_size=STEP_SIZE)
    many = images.expand(len(population), *images.shape)
    seeds = range(config.fits)
    return torch.stack(
        [attack.fit(population, many, labels, [seed] * len(population)) for seed in seeds]
    )


def judged(
    population: Population, strange: Tensor, config: StudyConfig, dataset: Dataset
) -> dict[str, Any]:
    """Shares of test images that stay right by figure, a value a network.

    strange: perturbations [S,Q,C,H,W] made for ordinary networks; that of a network's own seed is
    left out. `own` and `ordinary` are means over perturbations, `worst` is under the worst of own.
    """
    images, labels = dataset.test.first(config.images)
    threat = BaselineConfig(data=config.data).threat
    masks = attack_population(population, images, labels, attacks.PGD(threat, steps=20), 0)

    def right(perturbations: Tensor) -> Tensor:
        """[Q,P], of every network under each perturbation [Q,C,H,W]."""
        each = (attacks.perturbed(images[None], one[None])[0] for one in perturbations)
        found = [(predictions(population, points) == labels).double().mean(1) for points in each]
        return torch.stack(found)

    count = len(population)
    own = torch.stack([right(each).diag() for each in fitted(population, config, dataset)])
    others = torch.stack([right(each) for each in strange]).mean(0)
    others = torch.stack([others[torch.arange(count) != i, i].mean() for i in range(count)])
    noise = torch.randn(
        1, config.fits, *images.shape[1:], generator=torch.Generator().manual_seed(0)
    )
    noise = wide(threat).step(noise, wide(threat).epsilon)[0].to(images)
    found = {
        "accuracy": masks.accuracy,
        "attacked": masks.robust_accuracy,
        "own": own.mean(0),
        "worst": own.amin(0),
        "ordinary": others,
        "random": right(noise).mean(0),
    }
    return {name: values.tolist() for name, values in found.items()}


def table(found: Mapping[str, Mapping[str, Any]], config: StudyConfig) -> Table:
    """A row a kind, means over its networks."""
    lines = [
        (kind, *(percent(sum(own[name]) / len(own[name]), 1) for name in FIGURES))
        for kind, own in found.items()
    ]
    notes = [
        f"% of {config.images} test images that stay right, means of {config.networks} networks; "
        f"universal and random perturbations: {RADIUS:g} times epsilon, means of {config.fits}",
        "own: fitted to the network after training; of ordinary: to ordinary ones of other seeds",
    ]
    return Table(("kind", *FIGURES.values()), lines, notes)


def main(config: StudyConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.data, device())
    seeds = range(config.networks)

    def made(kind: str) -> Population:
        return Population.of([network(config, kind, seed, dataset) for seed in seeds])

    @functools.cache
    def ordinary() -> tuple[Population, Tensor]:
        """And what fools them; made only where figures of some kind are not there yet."""
        population = made("ordinary")
        return population, fitted(population, config, dataset)

    def row(kind: str) -> dict[str, Any]:
        networks, strange = ordinary()
        population = networks if kind == "ordinary" else made(kind)
        return judged(population, strange, config, dataset)

    found, failed = rows(config, KINDS, row)
    print(table(found, config))
    publish(config.out, settings, {"kinds": found}, failed)


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
