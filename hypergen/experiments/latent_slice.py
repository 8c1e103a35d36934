"""A plane through the latent space of a generator, for a map."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hypergen.models.latent import Latent

SIDE = 9
"""Cells along each side of a map."""
REACH = 2.5
"""How far a map reaches from its middle, in standard deviations of a coordinate of z."""


@dataclass(frozen=True)
class LatentSlice:
    """The points middle + across * directions[:,0] + up * directions[:,1].

    across and up, in [-1,1], are shares of the way from the middle to the border. The middle is a
    sample, as the generator is usually asked for; a latent space of no more than two dimensions is
    shown whole.

    middle: [Z]; directions: [Z,2], at right angles, as long as the slice reaches.
    """

    latent: Latent
    middle: Tensor
    directions: Tensor

    @classmethod
    def drawn(cls, latent: Latent, number: int) -> "LatentSlice":
        """A random slice; the same number gives the same one."""
        rng = torch.Generator().manual_seed(number)
        if latent.size <= 2:
            directions, middle = torch.eye(latent.size, 2), torch.zeros(latent.size)
        else:
            middle = latent.draw(1, rng)[0]
            directions, _ = torch.linalg.qr(torch.randn(latent.size, 2, generator=rng))
        reach = 10.0 if latent.uniform and latent.size <= 2 else REACH * latent.deviation
        return cls(latent, middle, reach * directions)

    def points(self, places: Tensor) -> Tensor:
        """z [P,Z] at places [P,2], (across, up); within what z can be."""
        return self.latent.clipped(self.middle + places @ self.directions.T, tail=0.0)

    def cells(self) -> Tensor:
        """[SIDE * SIDE, 2], the middles of the map's cells, row by row from below."""
        steps = (2 * torch.arange(SIDE) + 1) / SIDE - 1
        up, across = torch.meshgrid(steps, steps, indexing="ij")
        return torch.stack([across.flatten(), up.flatten()], dim=1)
