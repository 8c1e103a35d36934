"""The published protocol (Ballarin 2020), by one of several readings of its text.

One network a step: a generator of its weights, 2-32-128-512-D, and a value network of its flat
weights, D-512-32-2, take turns. The generator starts as a network that was trained ordinarily.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import attacks
from hypergen.data import Dataset
from hypergen.measures.attacked import attack_population
from hypergen.models.generator import PublishedGenerator
from hypergen.models.latent import Latent
from targets import Population, WeightLayout

START = 0.202
"""Reported robustness of the network that all starts from."""
SAMPLES = 20
CONSTANT = 0.15, 30
"""Below this accuracy for so many steps a training is ended."""


@dataclass(frozen=True)
class Reading:
    """What the text leaves open, and four things that it may have meant otherwise."""

    attack_steps: int
    first: str
    """which of the two is stepped first: value or generator"""
    growth: float
    """share of the steps over which the spread of s grows"""
    generator_pretraining: int
    value_pretraining: int
    value_decays: bool
    """whether the value network's step falls to 0"""
    robust: str
    """what R counts: images that are right under attack, or those on which no attack succeeds
    (unbroken), among them the ones that were wrong before"""
    decay: str
    """weight decay as a part of the gradient (l2, Adam's in PyTorch), or apart from it"""
    value_optimizer: str
    """what takes the value network's steps: adam, as in the text, or sgd"""
    images: str
    """whether A and R are of the same images in every step, or of others"""


CHOICES: dict[str, list[Any]] = {
    "attack_steps": [1, 5, 10, 20],
    "first": ["value", "generator"],
    "growth": [0.01, 0.1, 0.5, 1.0],
    "generator_pretraining": [200, 1000],
    "value_pretraining": [0, 10, 100, 1000],
    "value_decays": [False, True],
    "robust": ["right", "unbroken"],
    "decay": ["l2", "apart"],
    "value_optimizer": ["adam", "sgd"],
    "images": ["same", "others"],
}


@dataclass(frozen=True)
class Length:
    """Steps of the generator, and images that A and R of one are of."""

    steps: int
    images: int


@dataclass(frozen=True, eq=False)
class Subject:
    """The start, and the images."""

    start: nn.Module
    dataset: Dataset

    @property
    def layout(self) -> WeightLayout:
        """Of the weights."""
        return WeightLayout.of(self.start)

    @property
    def weights(self) -> Tensor:
        """[D], of the start."""
        return self.layout.flatten(self.start.state_dict())

    def measured(
        self, theta: Tensor, attack: attacks.Attack, images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """[P] each: accuracy, and robustness as either reading counts it."""
        networks = Population(self.start, theta)
        masks = attack_population(networks, images, labels, attack, 0)
        broken = masks.accuracy - masks.robust_accuracy
        return {
            "accuracy": masks.accuracy,
            "right": masks.robust_accuracy,
            "unbroken": 1 - broken,
        }


def pgd(epsilon: float, steps: int) -> attacks.PGD:
    """The attack in linf."""
    return attacks.PGD(attacks.Threat("linf", epsilon), steps=steps)


@cache
def epsilon_of(subject: Subject, steps: int, count: int) -> float:
    """Radius in linf at which PGD of so many steps leaves 0.202 of the first validation images."""
    images, labels = subject.dataset.val.first(count)

    def left(epsilon: float) -> float:
        found = subject.measured(subject.weights[None], pgd(epsilon, steps), images, labels)
        return float(found["right"])

    return min((step / 200 for step in range(4, 61)), key=lambda e: abs(left(e) - START))


def optimizers(
    generator: nn.Module, value: nn.Module, reading: Reading
) -> tuple[Optimizer, Optimizer]:
    """Of both, with the published steps and decays."""
    adam = Adam if reading.decay == "l2" else AdamW
    own = adam(generator.parameters(), lr=0.01, weight_decay=0.005, fused=True)
    kind = SGD if reading.value_optimizer == "sgd" else adam
    return own, kind(value.parameters(), lr=0.35, weight_decay=0.015, fused=True)


def value_network(size: int) -> nn.Module:
    """Flat weights [P,D] -> accuracy and robustness [P,2], as published."""
    layers = nn.Linear(size, 512), nn.LeakyReLU(0.02), nn.Linear(512, 32), nn.LeakyReLU(0.02)
    return nn.Sequential(*layers, nn.Linear(32, 2), nn.Sigmoid())


@cache
def pretrained_generator(subject: Subject, steps: int, seed: int) -> dict[str, Tensor]:
    """State of a generator fitted to the start: readings share it."""
    torch.manual_seed(seed)
    generator = PublishedGenerator(subject.layout, Latent(2, uniform=True))
    generator.pretrain(subject.weights, steps)
    return generator.state_dict()


def samples(
    subject: Subject, reading: Reading, epsilon: float, length: Length, seed: int
) -> tuple[Tensor, int]:
    """Weights [20,D] that the trained generator makes, and the steps until it was ended."""
    generator = PublishedGenerator(subject.layout, Latent(2, uniform=True))
    generator.load_state_dict(pretrained_generator(subject, reading.generator_pretraining, seed))
    torch.manual_seed(seed)
    value = value_network(subject.layout.size)
    own, values = optimizers(generator, value, reading)
    attack, draw = pgd(epsilon, reading.attack_steps), images_of(subject, reading, length)

    def goal(theta: Tensor) -> tuple[Tensor, float]:
        found = subject.measured(theta, attack, *next(draw))
        figures = torch.stack([found["accuracy"], found[reading.robust]], 1)
        return figures.float(), float(found["accuracy"])

    def fit(theta: Tensor, figures: Tensor) -> None:
        values.zero_grad()
        (value(theta) - figures).square().sum().backward()
        values.step()

    def improve(theta: Tensor) -> None:
        value.requires_grad_(False)
        own.zero_grad()
        (-value(theta).mean()).backward()
        own.step()
        value.requires_grad_(True)

    start = subject.weights[None]
    figures, _ = goal(start)
    for _ in range(reading.value_pretraining):
        fit(start, figures)
    beta, spread, fallen, step = torch.zeros(1), 0.0, 0, 0
    for step in range(1, length.steps + 1):
        spread = min(1.0, step / (reading.growth * length.steps))
        theta = generator(spread * generator.latent.draw(1, torch.default_generator), beta)
        figures, accuracy = goal(theta.detach())
        if reading.first == "value":
            fit(theta.detach(), figures)
        improve(theta)
        if reading.first == "generator":
            fit(theta.detach(), figures)
        if reading.value_decays:
            values.param_groups[0]["lr"] = 0.35 * (1 - step / length.steps)
        fallen = fallen + 1 if accuracy < CONSTANT[0] else 0
        if fallen == CONSTANT[1]:
            break
    with torch.no_grad():
        z = spread * generator.latent.draw(SAMPLES, torch.default_generator)
        return generator(z, beta.expand(SAMPLES)), step


def images_of(
    subject: Subject, reading: Reading, length: Length
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images that A and R of one step after the other are of."""
    train = subject.dataset.train
    while True:
        if reading.images == "same":
            yield train.first(length.images)
        else:
            yield train.draw(length.images, torch.default_generator)
