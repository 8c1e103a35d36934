"""Robustness: the share of attacked images that a network classifies correctly."""

from collections.abc import Callable

from torch import Tensor

import attacks
from hypergen.measures.base import Batch, Measure, mean_cross_entropy, share_correct
from targets import Population


class Robustness(Measure):
    """Share of attacked images classified correctly; surrogate: their cross-entropy."""

    name = "robustness"

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return share_correct(population, batch.attacked, batch.labels)

    def surrogate_loss(self, population: Population, batch: Batch) -> Tensor:
        return mean_cross_entropy(population(batch.attacked), batch.labels)


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
