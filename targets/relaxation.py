"""CROWN: a linear bound of the output, from the last layer back to the images.

Sources: Zhang et al. 2018, "Efficient neural network robustness certification with general
activation functions"; with the intervals of interval bound propagation in between it is the
CROWN-IBP of Zhang et al. 2020, "Towards stable and efficient training of verifiably robust neural
networks". What has no linear bound here is bounded by its interval.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.fx.node import Node

from targets.graph import Call, Values
from targets.intervals import AFFINE, KINKED, Interval, Propagation, kinked, replaced, slope_below
from targets.pooling import MaxPooling

LEAST_WIDTH = 1e-12
"""Of an interval that is divided by."""


def upper_bounds(propagation: Propagation, forms: Tensor, relaxed: bool) -> Tensor:
    """[S,B], the most that linear forms of the output can be; infinite where numbers overflow.

    Args:
        propagation: the intervals of all nodes.
        forms: [S,B,K], coefficients of the output [B,K].
        relaxed: follow them through activations to the images (CROWN), or else, as long as
            operations are affine, to the last activation: merged with the last layer, differences
            of its outputs have tighter bounds than from the interval of each.
    """
    bounds = _Walk(propagation, relaxed).back(forms)
    return torch.where(bounds.isnan(), torch.inf, bounds)  # infinity less infinity


class _Walk:
    """Carries the coefficients of linear forms from the output back through the graph."""

    def __init__(self, propagation: Propagation, relaxed: bool):
        self.propagation, self.relaxed = propagation, relaxed
        self.values, self.calls = propagation.values, propagation.calls

    def back(self, forms: Tensor) -> Tensor:
        """[S,B,K] -> [S,B]."""
        nodes = self.propagation.graph.nodes
        (last,) = nodes[-1].all_input_nodes
        coefficients, total = {last: forms}, torch.zeros_like(forms[..., 0])
        for node in reversed(nodes):
            if node not in coefficients:
                continue
            own = coefficients.pop(node)
            inputs, constant = self.step(node, own)
            total = total + constant
            for before, passed in inputs.items():
                known = coefficients.get(before)
                coefficients[before] = passed if known is None else known + passed
        return total

    def step(self, node: Node, own: Tensor) -> tuple[dict[Node, Tensor], Tensor]:
        """Coefficients [S,B,...] of a node -> those of its inputs, and what is constant [S,B]."""
        call = self.calls.get(node)
        if call is not None and call.name in AFFINE:
            return affine_back(self.values, call, own)
        if call is not None and self.relaxed and call.name in KINKED:
            lines = _kink_lines(call.args[0], slope_below(call))
            passed, constant = _through(own, *lines)
            return {node.all_input_nodes[0]: passed}, constant
        if call is not None and self.relaxed and is_plain_pool(call):
            return self.pool(call, own)
        interval = self.values[node]
        return {}, _dot(own, interval.centre) + _dot(own.abs(), interval.radius)

    def pool(self, call: Call, own: Tensor) -> tuple[dict[Node, Tensor], Tensor]:
        """Through max-pooling, as max(a, b) = a + relu(b - a) again and again."""
        (before,) = call.node.all_input_nodes
        shape, interval = self.values[call.node].lower.shape, self.values[before]

        def parts(values: Tensor) -> Tensor:
            return torch.stack(pooled_parts(call, values, shape))

        lower, upper = parts(interval.lower), parts(interval.upper)
        tops = Interval(lower.cummax(0).values, upper.cummax(0).values)
        constant, passed = torch.zeros_like(own.flatten(2)[..., 0]), []
        for index in range(len(lower) - 1, 0, -1):
            before_it = tops.lower[index - 1], tops.upper[index - 1]
            gap = Interval(lower[index] - before_it[1], upper[index] - before_it[0])
            part, added = _through(own, *_kink_lines(gap, 0.0))
            constant, own = constant + added, own - part
            passed.append(part)
        _, pull = cast(tuple[Tensor, Any], vjp(parts, torch.zeros_like(interval.lower)))
        (coefficients,) = vmap(pull)(torch.stack([own, *reversed(passed)], dim=1))
        return {before: coefficients}, constant


def affine_back(values: Values, call: Call, own: Tensor) -> tuple[dict[Node, Tensor], Tensor]:
    """Coefficients [S,B,...] of what `call` gives -> those of its inputs, and what is constant.

    Through a matrix M and a shift: M^T coefficients, and their product with the shift [S,B].

    Args:
        values: of the nodes before it, those that depend on the images as intervals.
        call: one of `AFFINE`.
    """
    if call.name == "linear" and isinstance(call.args[0], Interval):  # the rest, but faster
        weight, bias = cast(tuple[Tensor, Tensor | None], (*call.args[1:], None)[:2])
        shift = torch.zeros_like(own[..., 0]) if bias is None else own @ bias
        constant = shift.reshape(*own.shape[:2], -1).sum(-1)
        return {call.node.all_input_nodes[0]: own @ weight}, constant
    before = [n for n in call.node.all_input_nodes if isinstance(values[n], Interval)]

    def function(*inputs: Tensor) -> Tensor:
        known = {id(values[n]): each for n, each in zip(before, inputs, strict=True)}
        args, options = replaced((call.args, call.kwargs), lambda x: known.get(id(x), x))
        assert call.function is not None
        return call.function(*args, **options)

    zeros = [torch.zeros_like(values[each].lower) for each in before]
    shift, pull = cast(tuple[Tensor, Any], vjp(function, *zeros))
    return dict(zip(before, vmap(pull)(own), strict=True)), _dot(own, shift)


def _kink_lines(interval: Interval, slope: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lines below and above x, or slope * x where x < 0: their slopes and shifts, [B,...] each."""
    lower, upper = interval.lower, interval.upper
    slope = slope if isinstance(slope, Tensor) else lower.new_full((), slope)
    crosses = ~((lower >= 0) | (upper <= 0))  # and where numbers overflowed
    start = kinked(lower, slope)
    chord = (kinked(upper, slope) - start) / (upper - lower).clamp_min(LEAST_WIDTH)
    tangent = torch.where(upper > -lower, torch.ones_like(chord), slope)  # the smaller error
    straight = torch.where(lower >= 0, torch.ones_like(chord), slope)
    chord = torch.where(crosses, chord, straight)
    tangent = torch.where(crosses, tangent, straight)
    shift = torch.where(crosses, start - chord * lower, torch.zeros_like(chord))
    convex, nothing = slope <= 1, torch.zeros_like(shift)
    return (
        torch.where(convex, tangent, chord),
        torch.where(convex, nothing, shift),
        torch.where(convex, chord, tangent),
        torch.where(convex, shift, nothing),
    )


def _through(
    own: Tensor, low_slope: Tensor, low_shift: Tensor, high_slope: Tensor, high_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Coefficients [S,B,...] through lines: those of the input, and what is constant [S,B]."""
    positive, negative = own.clamp_min(0), own.clamp_max(0)
    constant = _dot(positive, high_shift) + _dot(negative, low_shift)
    return positive * high_slope + negative * low_slope, constant


def _dot(coefficients: Tensor, values: Tensor) -> Tensor:
    """[S,B,...] and [B,...] -> [S,B]."""
    return torch.einsum("sbf,bf->sb", coefficients.flatten(2), values.flatten(1))


def is_plain_pool(call: Call) -> bool:
    """Whether this is a max-pooling of planes all of whose windows are whole."""
    return call.name == "max_pool2d" and MaxPooling.of(call).is_plain


def pooled_parts(call: Call, values: Tensor, shape: torch.Size) -> list[Tensor]:
    """Values [B,C,H,W] -> for each place in a window what all windows have there, of `shape`."""
    pooling = MaxPooling.of(call)
    (height, width), (down, right) = pooling.kernel, pooling.stride
    rows, columns = (shape[2] - 1) * down + 1, (shape[3] - 1) * right + 1
    return [
        values[:, :, i : i + rows : down, j : j + columns : right]
        for i in range(height)
        for j in range(width)
    ]
