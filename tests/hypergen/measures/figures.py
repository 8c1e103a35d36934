"""Measures taken of populations, and networks whose logits are known."""

import torch
from torch import Tensor, nn

import attacks
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import (
    Accuracy,
    Batch,
    Measure,
    Stage,
    build_measure,
    measured,
    prepare_batch,
)
from targets import Population

THREAT = attacks.Threat("linf", 0.05)


def made(text: str) -> Measure:
    """The measure of a specification without its weight, such as int8:bits=4."""
    return build_measure(MeasureSpec.parse(f"{text}=1"), THREAT)


def stage(seed: int = 0, share: float = 1.0) -> Stage:
    """One step of PGD on `share` of a threat's radius."""

    def attack(threat: attacks.Threat) -> attacks.Attack:
        return attacks.PGD(attacks.Threat(threat.norm, share * threat.epsilon), steps=1)

    return Stage(attack, seed)


def prepared(
    measure: Measure, population: Population, images: Tensor, labels: Tensor, seed: int = 0
) -> Batch:
    return prepare_batch([measure], population, images, labels, stage(seed))


def figures(
    measure: Measure, population: Population, images: Tensor, labels: Tensor, seed: int = 0
) -> Tensor:
    """[P], what it says."""
    batch = prepared(measure, population, images, labels, seed)
    return measured([measure], population, batch)[:, 0]


def accuracy(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    return figures(Accuracy(), population, images, labels)


def repeating(classes: int, *factors: float) -> Population:
    """Networks that answer images [B,1,1,K] with their pixels, times a factor each."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(classes, classes, bias=False))
    return Population(
        module, torch.stack([factor * torch.eye(classes) for factor in factors]).flatten(1)
    )
