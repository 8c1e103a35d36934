"""Robustness: the share of attacked images that a network classifies correctly."""

from collections.abc import Callable

from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.measures.attacked import attacked_images
from hypergen.measures.base import ImageMeasure, Stage
from hypergen.measures.options import other_threat
from targets import Population


@MEASURES.register("robustness")
class Robustness(ImageMeasure):
    """Share of attacked images classified correctly; options norm, epsilon (the run's).

    Args:
        threat: of the run, which the figure is of unless a norm or an epsilon is given.
        norm: "linf", "l2" or "l1"; one that is not the run's needs an epsilon.
        epsilon: radius, for pixels in [0,1].
    """

    name = "robustness"

    def __init__(
        self, threat: attacks.Threat, norm: str | None = None, epsilon: float | None = None
    ):
        self.threat = other_threat(threat, norm, epsilon)

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        attack = stage.attack(self.threat)
        return attacked_images(population, images, labels, attack, stage.seed, stage.to_train)


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
