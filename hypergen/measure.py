"""What a network is worth: the measures, and the only place where targets meet attacks.

A measure has a name, a value in [0,1] for every network of a population, and a differentiable
surrogate loss for the `direct` objective. The value network has one output a measure and the
objective one weight a measure. To add one: a subclass here and a line in `measures`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

import attacks
from targets import Population, concurrently

PIECE_IMAGES = 65_536
"""Networks x images evaluated at once on an accelerator: bounds memory."""


@dataclass(frozen=True)
class Batch:
    """Images for every network of a population, clean and attacked; labels [B].

    images: [B,C,H,W]; attacked: [P,B,C,H,W], made against each network.
    """

    images: Tensor
    labels: Tensor
    attacked: Tensor

    def for_networks(self, place: slice) -> "Batch":
        """The same batch for some of the networks."""
        return Batch(self.images, self.labels, self.attacked[place])


def attacked_batch(
    population: Population, images: Tensor, labels: Tensor, attack: attacks.PGD, seed: int
) -> Batch:
    """The images [B,C,H,W] with, for each network, their adversarial versions."""

    def run(job: tuple[slice, Population]) -> Tensor:
        _, piece = job
        return attack.perturb(piece, _for_all(images, piece), labels, [seed] * len(piece))

    return Batch(images, labels, torch.cat(list(concurrently(run, population.pieces()))))


class Measure(ABC):
    """A figure of merit in [0,1]."""

    name: str

    @abstractmethod
    def __call__(self, population: Population, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """[P], measured on images [N,C,H,W] with labels [N]."""

    @abstractmethod
    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        """[P], a loss that falls as the measure rises, differentiable in the weights."""


class Accuracy(Measure):
    """Share of clean images classified correctly; surrogate: their cross-entropy."""

    name = "accuracy"

    def __call__(self, population: Population, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return survivors(population, images, labels, None, seed)["clean"].float().mean(1)

    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        return _cross_entropy(population(_for_all(batch.images, population)), batch.labels)


@dataclass(frozen=True)
class Robustness(Measure):
    """Share of images that stay correct under an attack; surrogate: the attacked cross-entropy."""

    attack: attacks.Attack
    name = "robustness"

    def __call__(self, population: Population, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        table = survivors(population, images, labels, self.attack, seed)
        return list(table.values())[-1].float().mean(1)

    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        return _cross_entropy(population(batch.attacked), batch.labels)


def measures(attack: attacks.Attack) -> tuple[Measure, ...]:
    """The measures of a run, in the order of the preference's weights."""
    return Accuracy(), Robustness(attack)


def mixed_attack(threat: attacks.Threat) -> attacks.Attack:
    """A cheap attack that is hard to hide from: what feeds the value network.

    Margin losses see through saturated logits, several targets through decoy classes, and Square's
    stripes need no gradient at all; the worst case per image counts.
    """
    return attacks.Suite(
        attacks.PGD(threat, steps=4, loss="margin"),
        attacks.PGD(threat, steps=4, restarts=2, loss="targeted"),
        attacks.Square(threat, queries=10),
        name="mixed",
    )


def survivors(
    population: Population,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack | None,
    seed: int,
    batch_size: int = 256,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, Tensor]:
    """Which of images [N,C,H,W] every network classifies correctly: name -> bool [P,N].

    One entry "clean", then one for each attack in turn, what is left after it. Every network gets
    the same `seed`, so a network's result does not depend on the population it is in. `progress`
    is called with the number of network-images done.
    """
    on_cpu = images.device.type == "cpu"
    pieces = list(population.pieces(None if on_cpu else max(1, PIECE_IMAGES // batch_size)))
    jobs = [
        (place, piece, start)
        for place, piece in pieces
        for start in range(0, len(images), batch_size)
    ]

    def run(job: tuple[slice, Population, int]) -> dict[str, Tensor]:
        _, piece, start = job
        part, truth = images[start : start + batch_size], labels[start : start + batch_size]
        stack = _for_all(part, piece)
        with torch.no_grad():
            found = {"clean": piece(stack).argmax(-1) == truth}
        if attack is not None:
            found |= attack(piece, stack, truth, [seed + start] * len(piece)).table
        progress(len(piece) * len(part))
        return found

    table: dict[str, Tensor] = {}
    for (place, _, start), found in zip(jobs, concurrently(run, jobs), strict=True):
        for name, correct in found.items():
            if name not in table:
                table[name] = torch.empty(
                    len(population), len(images), dtype=torch.bool, device=images.device
                )
            table[name][place, start : start + batch_size] = correct
    return table


def disagreement(population: Population, images: Tensor) -> float:
    """Share of images on which two networks differ in their class, averaged over all pairs."""
    classes = torch.stack([row for row in _classes(population, images)])
    count = len(classes)
    if count < 2:
        return 0.0
    votes = torch.nn.functional.one_hot(classes).sum(0)  # [N,K]
    agreeing = (votes * (votes - 1)).sum(-1).double()
    return float(1 - agreeing.mean() / (count * (count - 1)))


@torch.no_grad()
def _classes(population: Population, images: Tensor) -> Tensor:
    pieces = [piece for _, piece in population.pieces(1)]
    return torch.cat(
        list(concurrently(lambda piece: piece(images[None]).argmax(-1), pieces)), dim=0
    )


def _for_all(images: Tensor, population: Population) -> Tensor:
    return images.expand(len(population), *images.shape)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over images of logits [P,B,K] against labels [B]: [P]."""
    labels = labels.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)
