"""Interval bound propagation: in which interval every number of a network lies.

Source: Gowal et al. 2018, "On the effectiveness of interval bound propagation for training
verifiably robust models". An operation that never falls as its input rises maps the ends of an
interval; one that multiplies by weights W maps its centre by W and its radius by |W|.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import Node, map_aggregate

from targets.errors import TargetError
from targets.graph import Call, Graph, Values

_AFFINE_ENDS = """
    add avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d cat clone concat contiguous dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_alpha_dropout expand expand_as flatten float double getitem interpolate
    mean movedim narrow pad permute ravel repeat reshape select squeeze stack sum t to
    transpose unflatten unsqueeze view
"""
_RISING_ENDS = """
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax amin celu clamp elu exp
    hardsigmoid hardtanh logsigmoid max_pool1d max_pool2d max_pool3d maximum minimum relu relu6 selu
    sigmoid softplus softsign tanh
"""
_PRODUCTS = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d div linear matmul mul
    scale truediv
"""
KINKED = {"relu", "leaky_relu", "prelu", "abs"}
"""x above 0 and slope * x below."""
PRODUCTS = set(_PRODUCTS.split())
"""Products with weights, linear in each of their first two arguments."""
AFFINE = set(_AFFINE_ENDS.split()) | PRODUCTS | {"sub", "neg"}
"""What is a matrix and a shift to what depends on the images."""
ENDS = set(_AFFINE_ENDS.split()) | set(_RISING_ENDS.split())
"""What never falls as any of its inputs rises."""
SIZES = {"size", "dim", "numel", "getattr"}
"""What only the shape decides."""


@dataclass(frozen=True)
class Interval:
    """Every number lies between `lower` and `upper`, of the same shape."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """The middle."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half of the width, at least 0."""
        return (self.upper - self.lower) / 2


class Propagation:
    """The intervals of all nodes of a graph, and the operations that lead from one to the next.

    Attributes:
        values: by node, an `Interval` [B,...] or what does not depend on the images.
        calls: the operation of each node whose value is an interval, but for the images.

    Args:
        graph: of the target.
        tensors: its parameters and buffers by name.
        images: [B,C,H,W]; they decide the statistics of batch norm where it is by the batch.
        around: the interval of each pixel.

    Raises:
        TargetError: an operation that cannot be bounded, by its name and layer.
    """

    def __init__(
        self, graph: Graph, tensors: Mapping[str, Tensor], images: Tensor, around: Interval
    ):
        self.graph, self.calls = graph, dict[Node, Call]()
        self._count = len(images)
        self._clean = _clean_values(graph, tensors, images) if _is_by_batch(graph) else {}
        self.values: Values = graph.evaluate(tensors, around, self._bounded, is_interval)

    @property
    def logits(self) -> Interval:
        """Of the output [B,K]; `TargetError` for an output of another kind."""
        logits = self.values[self.graph.nodes[-1]]
        if not is_interval(logits) or logits.lower.ndim != 2:
            raise TargetError("cannot bound what is not one tensor of logits [B,K]")
        return logits

    def _bounded(self, call: Call) -> Any:
        if call.name in SIZES and call.function is not None:
            return call.function(*ends(call.args)[0], **call.kwargs)
        call = self._simplified(call)
        self._require_bounded(call)
        if call.name in KINKED:
            value = _kinked(call.args[0], slope_below(call))
        elif call.name in ENDS:
            value = _by_ends(call)
        elif call.name in PRODUCTS:
            value = _product(call)
        else:
            value = _difference(call)
        if not isinstance(value.lower, Tensor) or value.lower.shape[:1] != (self._count,):
            raise self._refused(call)
        self.calls[call.node] = call
        return value

    def _simplified(self, call: Call) -> Call:
        """The same operation with its first arguments by place, and batch norm as a product."""
        if call.name == "batch_norm":
            return replace(call, name="scale", function=scale, args=self._scale(call), kwargs={})
        return by_place(call)

    def _scale(self, call: Call) -> tuple[Any, Tensor, Tensor | None]:
        """Batch norm as the arguments of `scale`."""
        values, mean, var = call.args
        weight, bias = call.kwargs["weight"], call.kwargs["bias"]
        if call.kwargs["training"]:
            clean = self._clean[call.node.all_input_nodes[0]]
            dims = [dim for dim in range(clean.ndim) if dim != 1]
            mean, var = clean.mean(dims), clean.var(dims, correction=0)
        factor = (var + call.kwargs["eps"]).rsqrt()
        factor = factor if weight is None else factor * weight
        shift = -mean * factor if bias is None else bias - mean * factor
        shape = [1, -1] + [1] * (values.lower.ndim - 2)
        return values, factor.view(shape), shift.view(shape)

    def _require_bounded(self, call: Call) -> None:
        known = call.function is not None and call.name in KINKED | ENDS | AFFINE
        if not known or is_unusual(call, is_interval):
            raise self._refused(call)

    def _refused(self, call: Call) -> TargetError:
        return TargetError(f"cannot bound {self.graph.place(call.node)}")


def by_place(call: Call) -> Call:
    """The same operation with its first arguments by place, however the target gives them."""
    names = [name for name in ("input", "weight", "other", "bias") if name in call.kwargs]
    rest = {name: value for name, value in call.kwargs.items() if name not in names}
    return replace(call, args=(*call.args, *(call.kwargs[name] for name in names)), kwargs=rest)


def is_unusual(call: Call, depends: Callable[[Any], bool]) -> bool:
    """Whether options or arguments make something else of an operation than its name says.

    depends: whether a value depends on the images.
    """
    options = call.kwargs
    if call.name in PRODUCTS:
        of_one = sum(map(depends, call.args)) == 1 and not any(map(depends, options.values()))
        divides = call.name in ("div", "truediv")
        return not of_one or divides and (bool(options) or not depends(call.args[0]))
    if call.name in ("add", "sub"):
        return bool(options)  # a factor
    draws = options.get("training") is True  # a dropout
    return draws or options.get("mode") == "bicubic" or call.name == "elu" and options["alpha"] < 0


def is_interval(value: Any) -> bool:
    """Whether a value depends on the images."""
    return isinstance(value, Interval)


def scale(values: Tensor, factor: Tensor, shift: Tensor | None) -> Tensor:
    """values * factor + shift."""
    return values * factor if shift is None else values * factor + shift


def slope_below(call: Call) -> Any:
    """The slope below 0 of a kinked activation: a number, or a tensor that fits its input."""
    if call.name in ("relu", "abs"):
        return 0.0 if call.name == "relu" else -1.0
    if call.name == "leaky_relu":
        return call.args[1] if len(call.args) > 1 else call.kwargs.get("negative_slope", 0.01)
    values, slope = call.args
    return slope if slope.numel() == 1 else slope.view(1, -1, *[1] * (ends(values)[0].ndim - 2))


def kinked(values: Tensor, slope: Any) -> Tensor:
    """x above 0 and slope * x below."""
    return torch.where(values >= 0, values, slope * values)


def ends(arguments: Any) -> tuple[Any, Any]:
    """Arguments with the lower end in the place of each interval, and with the upper end."""
    lower = replaced(arguments, lambda each: each.lower if is_interval(each) else each)
    upper = replaced(arguments, lambda each: each.upper if is_interval(each) else each)
    return lower, upper


def replaced(arguments: Any, other: Callable[[Any], Any]) -> Any:
    """Arguments, nested as they are, with `other` of each in its place."""
    return map_aggregate(arguments, other)


def those_in(arguments: Any, wanted: Callable[[Any], bool]) -> list[Any]:
    """What is wanted among arguments, however nested, as often as it stands there."""
    found: list[Any] = []

    def note(value: Any) -> None:
        if wanted(value):
            found.append(value)

    replaced(arguments, note)
    return found


def _by_ends(call: Call) -> Interval:
    assert call.function is not None
    (lower, lower_options), (upper, upper_options) = ends((call.args, call.kwargs))
    return Interval(call.function(*lower, **lower_options), call.function(*upper, **upper_options))


def _kinked(values: Interval, slope: Any) -> Interval:
    if isinstance(slope, float) and slope == 0:
        return Interval(values.lower.relu(), values.upper.relu())
    below, above = kinked(values.lower, slope), kinked(values.upper, slope)
    lower = torch.minimum(below, above)
    crosses = (values.lower < 0) & (values.upper > 0)  # where it is 0 in between
    return Interval(torch.where(crosses, lower.clamp_max(0), lower), torch.maximum(below, above))


def _product(call: Call) -> Interval:
    assert call.function is not None
    first, second, *rest = call.args
    centre = [each.centre if is_interval(each) else each for each in (first, second)]
    radius = [each.radius if is_interval(each) else abs(each) for each in (first, second)]
    middle = call.function(*centre, *rest, **call.kwargs)
    width = call.function(*radius, *([None] if rest else []), *rest[1:], **call.kwargs)
    return Interval(middle - width, middle + width)


def _difference(call: Call) -> Interval:
    """Of sub(a, b), or of neg(b)."""
    first, second = (0, *call.args)[-2:]
    (low, high), (low_second, high_second) = ends(first), ends(second)
    return Interval(low - high_second, high - low_second)


def _is_by_batch(graph: Graph) -> bool:
    return any(node.kwargs.get("training") is True for node in graph.nodes)


def _clean_values(graph: Graph, tensors: Mapping[str, Tensor], images: Tensor) -> Values:
    """What the network makes of the images themselves."""

    def call(call: Call) -> Any:
        if call.function is None:
            raise TargetError(f"cannot bound {graph.place(call.node)}")
        return call.function(*call.args, **call.kwargs)

    return graph.evaluate(tensors, images, call, lambda value: True)
