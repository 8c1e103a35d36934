"""Planes through three images: where the linear regions of a network lie in them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.graph import Graph
from targets.linear_pieces import patterns

MARGIN = 0.1
"""Around the three images, of the width and height between them."""
ODD = 0x9E3779B97F4A7C15 - 2**64
"""An odd number whose powers spread over all 64 bits."""


@dataclass(frozen=True)
class Plane:
    """The plane through three images, with coordinates in L2.

    origin: the first image [C,H,W]; axes: [2,C,H,W] of length 1, at right angles, the first towards
    the second image; points: where the three lie, [3,2].
    """

    origin: Tensor
    axes: Tensor
    points: Tensor

    @classmethod
    def through(cls, images: Tensor) -> "Plane":
        """The plane through images [3,C,H,W]; they must not lie on one line."""
        across = (images[1:] - images[0]).flatten(1)
        axes, lengths = torch.linalg.qr(across.T)
        signs = lengths.diag().sign()
        points = torch.cat([torch.zeros_like(lengths[:1]), (signs[:, None] * lengths).T])
        return cls(images[0], (axes * signs).T.reshape(2, *images.shape[1:]), points)

    def whole(self) -> Tensor:
        """The rectangle around the three images, with a margin: [[left, right], [bottom, top]]."""
        low, high = self.points.amin(0), self.points.amax(0)
        return torch.stack([low, high], dim=1) + MARGIN * torch.stack([low - high, high - low], 1)

    def around(self, point: Tensor, side: float) -> Tensor:
        """The square around a point [2], as `whole`."""
        return point[:, None] + point.new_tensor([-side / 2, side / 2])


@dataclass(frozen=True)
class Slice:
    """A network on a grid in a plane, row by row from below: [G,G] each.

    classes: the most likely. cells: a number for each activation pattern, in no order.
    changes: how many activations and pooling windows change from a point to its right and its upper
    neighbour, by the distance to these: the number of borders crossed per unit of length (L2),
    except where a unit changes and changes back in between.
    """

    classes: Tensor
    cells: Tensor
    changes: Tensor


@torch.no_grad()
def sliced(
    graph: Graph, tensors: Mapping[str, Tensor], plane: Plane, box: Tensor, size: int
) -> Slice:
    """A network on `size` * `size` points of a rectangle [[left, right], [bottom, top]].

    Raises:
        TargetError: as `Walk.logits`.
    """
    steps = torch.arange(size + 1, dtype=box.dtype, device=box.device) / size
    across, up = (low + steps * (high - low) for low, high in box)
    classes, hashes, changes, below = [], [], [], None
    for height in up:
        points = plane.origin + across.view(-1, 1, 1, 1) * plane.axes[0] + height * plane.axes[1]
        logits, pattern = patterns(graph, tensors, points)
        if below is not None:
            aside = (below[1:] != below[:-1]).sum(1) / (across[1] - across[0])
            above = (below != pattern)[:-1].sum(1) / (up[1] - up[0])
            changes.append((aside + above) / 2)
        classes.append(logits.argmax(1)[:-1])
        hashes.append(_hashed(pattern)[:-1])
        below = pattern
    _, cells = torch.stack(hashes[:-1]).unique(return_inverse=True)
    return Slice(torch.stack(classes[:-1]), cells, torch.stack(changes))


def _hashed(pattern: Tensor) -> Tensor:
    """A number for each pattern [B,U] -> [B], by sums that overflow as they may."""
    factors = torch.full_like(pattern[0], ODD, dtype=torch.int64).cumprod(0)
    return (pattern.long() * factors).sum(1)
