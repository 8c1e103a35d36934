"""The layers of a piecewise-linear network as matrices: W_x = W^L V^(L-1) ... V^1 W^1.

Source: Bibi and Alfadly, "Understanding DNNs". A convolution is a matrix, and so, in the region of
one image, are an activation (diagonal) and a max-pooling (of zeros and ones).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx.node import Node

from hypergen.errors import InputError
from targets.graph import Call, Graph
from targets.intervals import replaced, those_in
from targets.kinks import Kinks, Windows
from targets.linear_pieces import Frozen
from targets.piecewise_linear import Rows, is_rows

MAX_NUMBERS = 2**24
"""In the matrix of one layer."""


def layer_matrices(
    graph: Graph, tensors: Mapping[str, Tensor], image: Tensor
) -> list[tuple[str, Tensor]]:
    """The matrix [out,in] of every layer in the region of an image [C,H,W], with the layer's name.

    In the order of the layers: their product, the last one leftmost, is the Jacobian [K,CHW] of the
    logits. What only shapes anew, the identity, is left out, and so are all shifts.

    Raises:
        InputError: the layers are no chain, each upon the one before, or one is too large.
        TargetError: the target is not piecewise linear.
    """
    walk = _Chain(graph, tensors)
    walk.logits(Rows(image[None, None]))
    return walk.matrices


class _Chain(Frozen):
    """Carries one image, and notes the matrix of every layer that it goes through."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]):
        super().__init__(graph, tensors, 1)
        self.matrices: list[tuple[str, Tensor]] = []
        self._last: Rows | None = None

    def affine(self, call: Call) -> Rows:
        arguments = call.args, call.kwargs
        plain = super().affine

        def function(rows: Rows) -> Rows:
            args, options = replaced(arguments, lambda x: rows if is_rows(x) else x)
            return plain(replace(call, args=args, kwargs=options))

        before = {id(rows): rows for rows in those_in(arguments, is_rows)}
        return self._through(call.node, [*before.values()], function)

    def kinked(self, node: Node, kinks: Kinks, rows: Rows) -> Rows:
        piece = kinks.piece(rows.values)
        return self._through(node, [rows], lambda each: Rows(kinks.apply(each.values, piece)))

    def pooled(self, node: Node, windows: Windows, rows: Rows) -> Rows:
        winners = windows.winners(rows.values)

        def function(rows: Rows) -> Rows:
            everywhere = winners.expand(len(rows.values), *winners.shape[1:])
            return Rows(windows.choose(rows.values, everywhere))

        return self._through(node, [rows], function)

    def _through(self, node: Node, before: list[Rows], function: Callable[[Rows], Rows]) -> Rows:
        (rows, *others) = before
        if others or (self._last is not None and rows is not self._last):
            raise InputError(f"the layers are no chain: {self.graph.place(node)} joins branches")
        result = self._last = function(rows)
        size = rows.values.numel()
        if size * result.values.numel() > MAX_NUMBERS:
            raise InputError(f"{self.graph.place(node)} is too large to be written as a matrix")
        units = torch.eye(size, dtype=rows.values.dtype, device=rows.values.device)
        basis = torch.cat([torch.zeros_like(units[:1]), units]).view(-1, *rows.values.shape[1:])
        moved = function(Rows(basis)).values.flatten(1)
        matrix = (moved[1:] - moved[:1]).T
        if not torch.equal(matrix, units):
            self.matrices.append((self.graph.place(node), matrix))
        return result
