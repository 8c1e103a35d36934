"""Robustness: the share of attacked images that a network classifies correctly."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

from torch import Tensor

import attacks
from hypergen.catalog import ATTACKS, MEASURES
from hypergen.measures.attacked import attacked_images, broken_images
from hypergen.measures.base import ImageMeasure, Stage
from hypergen.measures.options import other_threat
from targets import Population


class AttackedMeasure(ImageMeasure):
    """The share of attacked images that are classified correctly.

    Attributes:
        only_broken: whether an image is lost by any point that an attack visits, not by its last.
    """

    only_broken = False

    @abstractmethod
    def attack_at(self, stage: Stage) -> attacks.Attack:
        """What attacks the images of a stage."""

    def strict(self) -> Self:
        """The same, but `only_broken`."""
        if self.only_broken:
            return self
        other = copy.copy(self)
        other.only_broken = True
        return other

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        attack = self.attack_at(stage)
        if self.only_broken:
            return broken_images(population, images, labels, attack, stage.seed)
        return attacked_images(population, images, labels, attack, stage.seed, stage.precision)


@MEASURES.register("robustness")
class Robustness(AttackedMeasure):
    """Share of attacked images classified correctly; options norm, epsilon (the run's), attack.

    Args:
        threat: of the run, which the figure is of unless a norm or an epsilon is given.
        norm: "linf", "l2" or "l1"; one that is not the run's needs an epsilon.
        epsilon: radius, for pixels in [0,1].
        attack: any registered one by its name, with the options that it has by default; an image
            that it does not break stays clean. Without it, the run's own (`pgd`).
    """

    name = "robustness"

    def __init__(
        self,
        threat: attacks.Threat,
        norm: str | None = None,
        epsilon: float | None = None,
        attack: str | None = None,
    ):
        self.threat, self.attack = other_threat(threat, norm, epsilon), attack
        self.only_broken = attack is not None
        if attack is not None:
            ATTACKS.get(attack)(self.threat)  # refuses a norm that it does not know

    def attack_at(self, stage: Stage) -> attacks.Attack:
        if self.attack is None:
            return stage.attack(self.threat)
        return ATTACKS.get(self.attack)(stage.threat(self.threat))


def margin(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on the margin, which saturated logits cannot hide from."""
    return attacks.PGD(threat, steps=steps, loss="margin")


APGD_STEPS = 7
"""From so many on, in l1, Auto-PGD raises the loss higher than PGD does, for which more steps do
little there (scripts/results/LOG.md)."""


def pgd(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on cross-entropy, what the published protocol measures by; Auto-PGD in l1."""
    if threat.norm == "l1" and steps >= APGD_STEPS:
        return attacks.APGD(threat, steps=steps)
    return attacks.PGD(threat, steps=steps)


VALUE_ATTACKS: dict[str, Callable[[attacks.Threat, int], attacks.Attack]] = {
    "margin": margin,
    "pgd": pgd,
}
"""What attacks the images that V sees and robustness is measured on, given a threat and steps."""
