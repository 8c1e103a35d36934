"""Carlini and Wagner's l2 attack (2017): the nearest example, by gradient descent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import (
    ActiveSet,
    Attack,
    Model,
    PerNetworkRNG,
    differentiate,
    misclassified,
)
from attacks.losses import margin
from attacks.minimum_norm import MinimumNorm, WeightSearch
from attacks.options import require_counts, require_nonnegative, require_positive
from attacks.threat import NORMS

# In tanh space 0 and 1 are infinitely far off, and pixels of these values would never move. They
# begin a little inside; at the published 5e-7, 200 steps do not bring them back, and these do.
EDGE = 1e-4


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Minimises L2(x', x)^2 + c max(kappa - margin, 0) by Adam, with c searched for (C&W 2017).

    x' is (1 + tanh w) / 2, so that [0, 1] does not bind, and every image has its own c: ten times
    as much until an example is found, halfway in between from then on. What is minimised is the
    distance in l2, whatever the threat; the result is the example visited that is nearest in the
    threat's norm: an image is not done with at its first one.

    Args:
        steps: of Adam, for each c.
        searches: how many values of c are tried.
        first_weight: the first of them.
        learning_rate: Adam's.
        kappa: margin that an example must have at least, in units of the logits.

    Raises:
        AttackError: an option out of range.
    """

    unconstrained_norms = NORMS
    steps: int = 1000
    searches: int = 9
    first_weight: float = 1e-3
    learning_rate: float = 0.01
    kappa: float = 0.0

    def __post_init__(self) -> None:
        require_counts(self, "steps", "searches")
        require_positive(self, "first_weight", "learning_rate")
        require_nonnegative(self, "kappa")

    @property
    def name(self) -> str:
        return "cw"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        nearest = MinimumNorm.none(active_set.images)
        weights = WeightSearch.begin(active_set.images, self.first_weight)
        for _ in range(self.searches):
            nearest, found = self._descend(model, active_set, weights.current, nearest)
            weights = weights.updated(found)
        nearest.mark_inside(active_set, self.threat)

    def _descend(
        self, model: Model, active_set: ActiveSet, weight: Tensor, nearest: MinimumNorm
    ) -> tuple[MinimumNorm, Tensor]:
        """One run of Adam from the clean images; and which found an example, bool [P,N]."""
        images, labels = active_set.images, active_set.labels
        # tanh w = 2 sigmoid(2w) - 1, which keeps its precision near 0.
        w = torch.logit(images, EDGE) / 2
        optimizer = torch.optim.Adam([w], self.learning_rate)
        found = torch.zeros_like(labels, dtype=torch.bool)
        for _ in range(self.steps):
            points = torch.sigmoid(2 * w)
            logits, lead, gradient = differentiate(
                model, points, lambda logits: margin(logits, labels)
            )
            broken = misclassified(logits, labels) & (lead >= self.kappa)
            nearest = nearest.updated(points, broken, images, self.threat)
            found |= broken
            push = torch.where(lead < self.kappa, weight, 0)[..., None, None, None]
            slope = 2 * (points - images) - push * gradient
            w.grad = slope * 2 * points * torch.sigmoid(-2 * w)
            optimizer.step()
        return nearest, found
