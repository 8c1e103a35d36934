"""For attacks that weigh nearness against success: what they have found, and the weight itself."""

from typing import NamedTuple

import torch
from torch import Tensor

from attacks.survivors import Survivors
from attacks.threat import Threat


class Nearest(NamedTuple):
    """The example of each image that is nearest in the threat's norm: points [P,N,C,H,W].

    `distances`, [P,N], are theirs, infinite where there is no example.
    """

    points: Tensor
    distances: Tensor

    @classmethod
    def none(cls, images: Tensor) -> "Nearest":
        """None for any of the images [P,N,C,H,W]."""
        return cls(images, images.new_full(images.shape[:2], torch.inf))

    def visited(self, points: Tensor, broken: Tensor, images: Tensor, threat: Threat) -> "Nearest":
        """With points [P,N,C,H,W] taken into account that are examples where `broken`, [P,N]."""
        distances = threat.distance(points, images)
        better = broken & (distances < self.distances)
        return Nearest(
            torch.where(better[..., None, None, None], points, self.points),
            torch.where(better, distances, self.distances),
        )

    def drop_from(self, survivors: Survivors, threat: Threat) -> None:
        """Hands in the examples that lie within the threat."""
        inside = threat.contains(self.points, survivors.images)
        survivors.drop(self.points, inside & self.distances.isfinite())


class Weights(NamedTuple):
    """Each image's search for the least weight of success that brings it about, [P,N] each.

    `current` is the one to try now, `low` did not suffice, `high` did, infinite as long as none.
    """

    current: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def begin(cls, images: Tensor, first: float) -> "Weights":
        """With the same first try for all images [P,N,C,H,W]."""
        number = images.new_zeros(images.shape[:2])
        return cls(number + first, number, number + torch.inf)

    def tried(self, found: Tensor) -> "Weights":
        """After it was seen which current weights suffice, bool [P,N]."""
        low = torch.where(found, self.low, self.current)
        high = torch.where(found, self.current, self.high)
        return Weights(torch.where(high.isinf(), 10 * low, (low + high) / 2), low, high)
