"""The affine pieces of a piecewise-linear target: which one an image lies on, and its map.

An image's activation pattern says which piece of each activation it lies on, and which place every
pooling window chooses. All images of one pattern form a cell, a convex polytope, and there the
network is affine: f(x) = W x + b.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx.node import Node

from targets.graph import Graph
from targets.kinks import Kinks, Windows
from targets.piecewise_linear import Rows, Walk


class Frozen(Walk):
    """Evaluates images under the patterns of others.

    Of R rows the first `count` are images that decide the pattern, and the rest, in as many blocks
    of `count`, are evaluated under it.

    Attributes:
        patterns: by node, of the first rows, the piece of each unit or the winner of each window.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], count: int):
        super().__init__(graph, tensors)
        self.count = count
        self.patterns: dict[Node, Tensor] = {}

    def kinked(self, node: Node, kinks: Kinks, rows: Rows) -> Rows:
        piece = kinks.piece(rows.values[: self.count])
        self.patterns[node] = piece
        return Rows(kinks.apply(rows.values, self._for_all(piece, rows)))

    def pooled(self, node: Node, windows: Windows, rows: Rows) -> Rows:
        winners = windows.winners(rows.values[: self.count])
        self.patterns[node] = winners
        return Rows(windows.choose(rows.values, self._for_all(winners, rows)))

    def _for_all(self, pattern: Tensor, rows: Rows) -> Tensor:
        return pattern.repeat(len(rows.values) // self.count, *[1] * (pattern.ndim - 1))


def frozen(
    graph: Graph, tensors: Mapping[str, Tensor], images: Tensor, others: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits [B,K] of images [B,C,H,W], and [S,B,K] of others [S,B,C,H,W] under their patterns.

    So the map W x + b of an image's piece has b = what it makes of zeros.

    Raises:
        TargetError: as `Walk.logits`.
    """
    rows = torch.cat([images[None], others]).flatten(0, 1)[:, None]
    logits = Frozen(graph, tensors, len(images)).logits(Rows(rows)).values[:, 0]
    logits = logits.unflatten(0, (-1, len(images)))
    return logits[0], logits[1:]


def patterns(graph: Graph, tensors: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B,K] of images [B,C,H,W] and their activation patterns [B,U], small whole numbers.

    Raises:
        TargetError: as `Walk.logits`.
    """
    walk = Frozen(graph, tensors, len(images))
    logits = walk.logits(Rows(images[:, None])).values[:, 0]
    found = [pattern.flatten(1).to(torch.int16) for pattern in walk.patterns.values()]
    if not found:
        return logits, torch.zeros(len(images), 0, dtype=torch.int16)
    return logits, torch.cat(found, dim=1)
