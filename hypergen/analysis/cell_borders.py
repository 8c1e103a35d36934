"""How far an image is from the border of its linear region.

In an image's region every number before an activation is affine in the image; the border is where
one of them crosses a knot, or where two numbers of a pooling window become equal.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx.node import Node

from targets.graph import Graph
from targets.kinks import Kinks, Windows
from targets.linear_pieces import Frozen
from targets.piecewise_linear import Rows

DIRECTIONS = 256
"""Pixels that are moved at once."""
ROUNDING = 1e-13
"""Of a layer's largest number: differences up to this are none."""
LEAST_SLOPE = 1e-9
"""Of the largest: a unit with less does not depend on the image."""


@torch.no_grad()
def nearest_border(graph: Graph, tensors: Mapping[str, Tensor], image: Tensor) -> tuple[float, int]:
    """The distance (L2) from an image [C,H,W] to the border of its activation pattern's cell.

    Of each unit it is its number's distance to a knot, over the length of its gradient: exact, for
    the nearest of all these planes is reached inside the cell. Infinite where nothing bends.
    Planes through the image itself are left out; how many these are is returned too. A blank
    background makes many, as all numbers of its pooling windows are equal.

    Args:
        graph: of the target.
        tensors: the network's parameters and buffers by name, 64-bit as the image.

    Raises:
        TargetError: as `Walk.logits`.
    """
    walk = _Borders(graph, tensors)
    pixels = torch.eye(image.numel(), dtype=image.dtype, device=image.device)
    for chunk in pixels.view(-1, *image.shape).split(DIRECTIONS):
        rows = torch.cat([image[None], torch.zeros_like(image)[None], chunk])
        walk.logits(Rows(rows[:, None]))
    if not walk.gaps:
        return torch.inf, 0
    gaps = torch.cat([gap.flatten() for gap in walk.gaps.values()])
    slopes = torch.cat([square.flatten() for square in walk.squares.values()]).sqrt()
    bends = slopes > LEAST_SLOPE * slopes.max()
    distances = (gaps / slopes)[bends & (gaps > 0)]
    nearest = float(distances.min()) if len(distances) else torch.inf
    return nearest, int((bends & (gaps == 0)).sum())


class _Borders(Frozen):
    """Of rows (an image, zeros, directions), how far all units are from their kinks.

    Attributes:
        gaps: by node, by how much the number of each unit would have to change; 0 for rounding.
        squares: of the lengths of the gradients of these numbers, summed over all calls.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]):
        super().__init__(graph, tensors, 1)
        self.gaps: dict[Node, Tensor] = {}
        self.squares: dict[Node, Tensor] = {}

    def kinked(self, node: Node, kinks: Kinks, rows: Rows) -> Rows:
        gaps = [(rows.values[0] - knot).abs() for knot in kinks.knots]
        self._note(node, torch.stack(gaps).amin(0), rows.values, rows.values[0].abs().max())
        return super().kinked(node, kinks, rows)

    def pooled(self, node: Node, windows: Windows, rows: Rows) -> Rows:
        choice = windows.candidates(rows.values)
        winner = choice[:1].argmax(-1, keepdim=True).expand(*choice.shape[:-1], 1)
        chosen = choice.gather(-1, winner)
        ahead = chosen - choice
        self._note(node, ahead[0], ahead, choice[0].abs().max())
        return Rows(chosen[..., 0].unflatten(-1, windows.shape))

    def _note(self, node: Node, gaps: Tensor, values: Tensor, scale: Tensor) -> None:
        """Gaps of units, and the numbers in all rows that they are of; scale: of the layer."""
        self.gaps[node] = gaps.masked_fill(gaps <= ROUNDING * scale, 0.0)
        square = (values[2:] - values[1:2]).square().sum(0)
        self.squares[node] = self.squares[node] + square if node in self.squares else square
