"""For minimum-norm attacks: what they have found, and the search for the weight of success."""

from typing import NamedTuple

import torch
from torch import Tensor

from attacks.active_set import ActiveSet
from attacks.threat import Threat


class MinimumNorm(NamedTuple):
    """The adversarial example of each image of least norm, the threat's: points [P,N,C,H,W].

    `distances`, [P,N], are theirs, infinite where there is no example.
    """

    points: Tensor
    distances: Tensor

    @classmethod
    def none(cls, images: Tensor) -> "MinimumNorm":
        """None for any of the images [P,N,C,H,W]."""
        return cls(images, images.new_full(images.shape[:2], torch.inf))

    def updated(
        self, points: Tensor, broken: Tensor, images: Tensor, threat: Threat
    ) -> "MinimumNorm":
        """With points [P,N,C,H,W] taken into account that are examples where `broken`, [P,N]."""
        distances = threat.distance(points, images)
        better = broken & (distances < self.distances)
        return MinimumNorm(
            torch.where(better[..., None, None, None], points, self.points),
            torch.where(better, distances, self.distances),
        )

    def mark_inside(self, active_set: ActiveSet, threat: Threat) -> None:
        """Marks the examples that lie within the threat as adversarial."""
        inside = threat.contains(self.points, active_set.images)
        active_set.mark_adversarial(self.points, inside & self.distances.isfinite())


class WeightSearch(NamedTuple):
    """Each image's binary search for the least weight of success that brings it about, [P,N] each.

    `current` is the one to try now, `low` did not suffice, `high` did, infinite as long as none.
    """

    current: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def begin(cls, images: Tensor, first: float) -> "WeightSearch":
        """With the same first try for all images [P,N,C,H,W]."""
        number = images.new_zeros(images.shape[:2])
        return cls(number + first, number, number + torch.inf)

    def updated(self, found: Tensor) -> "WeightSearch":
        """After it was seen which current weights suffice, bool [P,N]."""
        low = torch.where(found, self.low, self.current)
        high = torch.where(found, self.current, self.high)
        return WeightSearch(torch.where(high.isinf(), 10 * low, (low + high) / 2), low, high)
