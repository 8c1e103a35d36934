"""Robustness: the share of attacked images that a network classifies correctly."""

import copy
from collections.abc import Callable
from typing import Self

from torch import Tensor

import attacks
from hypergen.catalog import ATTACKS, MEASURES
from hypergen.measures.attacked import attacked_images
from hypergen.measures.base import ImageMeasure, Stage
from hypergen.measures.options import other_threat
from hypergen.runtime.batching import for_all, map_chunks
from hypergen.runtime.precision import full_precision
from targets import Population


@MEASURES.register("robustness")
class Robustness(ImageMeasure):
    """Share of attacked images classified correctly; options norm, epsilon (the run's), attack.

    Args:
        threat: of the run, which the figure is of unless a norm or an epsilon is given.
        norm: "linf", "l2" or "l1"; one that is not the run's needs an epsilon.
        epsilon: radius, for pixels in [0,1].
        attack: any registered one by its name, with the options that it has by default; an image
            that it does not break stays clean. Without it, PGD as the run makes it.

    Attributes:
        only_broken: whether an image is lost by any point that an attack visits, not by its last.
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
        return attacked_images(population, images, labels, attack, stage.seed, stage.to_train)

    def attack_at(self, stage: Stage) -> attacks.Attack:
        """What attacks the images of a stage."""
        if self.attack is None:
            return stage.attack(self.threat)
        return ATTACKS.get(self.attack)(stage.threat(self.threat))


@full_precision()
def broken_images(
    population: Population, images: Tensor, labels: Tensor, attack: attacks.Attack, seed: int
) -> Tensor:
    """[P,B,C,H,W], what breaks each network where the attack finds it, and clean images elsewhere.

    So a network is right about just those that are robust to the attack.

    Args:
        images: [B,C,H,W].
        labels: [B].
        seed: of all that is random in the attack, the same for every network.

    Raises:
        AttackError: the networks cannot be attacked.
    """

    def run(chunk: Population, image_slice: slice) -> Tensor:
        stack, seeds = for_all(images[image_slice], chunk), [seed + image_slice.start] * len(chunk)
        return attack(chunk, stack, labels[image_slice], seeds).images

    return map_chunks(run, population, images)


def margin(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on the margin, which saturated logits cannot hide from."""
    return attacks.PGD(threat, steps=steps, loss="margin")


def pgd(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on cross-entropy, what the published protocol measures by."""
    return attacks.PGD(threat, steps=steps)


VALUE_ATTACKS: dict[str, Callable[[attacks.Threat, int], attacks.Attack]] = {
    "margin": margin,
    "pgd": pgd,
}
"""What attacks the images that V sees and robustness is measured on, given a threat and steps."""
