"""Targets as continuous piecewise-linear functions: affine but for kinks and for max-pooling.

A `Walk` carries what stands for inputs through the graph of such a target, one row an input, and
names the first operation that makes a target something else.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.node import Node

from targets.errors import TargetError
from targets.graph import Call, Graph
from targets.intervals import AFFINE, SIZES, by_place, is_unusual, replaced, those_in
from targets.kinks import Kinks, Windows, kinks_of, windows_of
from targets.population import Population

_SMOOTH_NAMES = """
    KAF celu cos elu erf exp gelu group_norm hardswish layer_norm log log_softmax logsigmoid mish
    pow rsqrt selu sigmoid silu sin softmax softplus softsign sqrt square tanh
"""
_SMOOTH = set(_SMOOTH_NAMES.split())
_BROKEN = {"KWTA", "hardshrink", "heaviside", "round", "sign", "threshold"}


@dataclass(frozen=True)
class Rows:
    """What a node is worth for R inputs, a batch of one each: values [R,1,...].

    places: where they lie on a line [R], if they do (targets/breakpoints.py).
    """

    values: Tensor
    places: Tensor | None = None


class Walk(abc.ABC):
    """Carries rows through a piecewise-linear target; subclasses say what becomes of them at kinks.

    Args:
        graph: of the target.
        tensors: its parameters and buffers by name.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]):
        self.graph, self.tensors = graph, tensors

    @abc.abstractmethod
    def kinked(self, node: Node, kinks: Kinks, rows: Rows) -> Rows:
        """Through an activation."""

    @abc.abstractmethod
    def pooled(self, node: Node, windows: Windows, rows: Rows) -> Rows:
        """Through a max-pooling."""

    def aligned(self, rows: Sequence[Rows]) -> Sequence[Rows]:
        """What meets in one operation, with rows that stand for the same inputs."""
        return rows

    @torch.no_grad()
    def logits(self, rows: Rows) -> Rows:
        """Of images as rows [R,1,C,H,W], the output as rows [R,1,K].

        Raises:
            TargetError: the target is not a continuous piecewise-linear function, or it is not
                known here to be one: its first such operation and layer.
        """
        values = self.graph.evaluate(self.tensors, rows, self._call, is_rows)
        output = values[self.graph.nodes[-1]]
        if not is_rows(output) or output.values.ndim != 3:
            raise TargetError("expected a target that answers with one tensor of logits [B,K]")
        return output

    def _call(self, call: Call) -> Any:
        call = by_place(call)
        if call.function is not None and call.name in SIZES:
            args = replaced(call.args, lambda x: x.values[0] if is_rows(x) else x)
            return call.function(*args, **call.kwargs)
        rows = those_in((call.args, call.kwargs), is_rows)
        if call.function is not None and len(rows) == 1 and call.args and call.args[0] is rows[0]:
            single = replace(call, args=(rows[0].values[0], *call.args[1:]))
            if (kinks := kinks_of(single)) is not None:
                return self.kinked(call.node, kinks, rows[0])
            if (windows := windows_of(single)) is not None:
                return self.pooled(call.node, windows, rows[0])
        if not _is_affine(call):
            raise TargetError(self._refusal(call))
        return self.affine(call)

    def affine(self, call: Call) -> Rows:
        """Row by row: whatever the target does with the batch it does with a batch of one."""
        found = {id(rows): rows for rows in those_in((call.args, call.kwargs), is_rows)}

        def function(*inputs: Tensor) -> Any:
            known = dict(zip(found, inputs, strict=True))
            args, options = replaced((call.args, call.kwargs), lambda x: known.get(id(x), x))
            assert call.function is not None
            return call.function(*args, **options)

        rows = self.aligned([*found.values()])
        values = vmap(function, randomness="different")(*(each.values for each in rows))
        if not isinstance(values, Tensor) or values.ndim < 2 or values.shape[1] != 1:
            raise TargetError(self._refusal(call))
        return Rows(values, rows[0].places)

    def _refusal(self, call: Call) -> str:
        place = self.graph.place(call.node)
        if call.name in _BROKEN:
            return f"{place} is piecewise linear but not continuous: it jumps"
        if call.name in _SMOOTH:
            return f"{place} is smooth, so the network has no linear pieces"
        return f"{place} is not known to be affine, an activation with kinks, or max-pooling"


def tensors_of(population: Population) -> list[dict[str, Tensor]]:
    """Parameters and buffers by name, network by network, without gradients."""
    tensors = population.layout.unflatten(population.theta.detach()) | population.buffers
    return [
        {name: tensor[index] for name, tensor in tensors.items()}
        for index in range(len(population))
    ]


def is_rows(value: Any) -> bool:
    """Whether a value depends on the inputs."""
    return isinstance(value, Rows)


def _is_affine(call: Call) -> bool:
    if call.function is None:
        return False
    if call.name == "batch_norm":
        return call.kwargs["training"] is False
    return call.name in AFFINE and not is_unusual(call, is_rows)
