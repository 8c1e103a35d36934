"""By how much a network can change its logits: the product of what each operation can, in L2.

Sources: Szegedy et al. 2014, "Intriguing properties of neural networks"; sums of branches and
concatenations as in Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz
continuity".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.fx.node import Node

from hypergen.analysis.base import NotApplicable
from hypergen.analysis.slopes import greatest_slope, kaf_slope, slopes_within
from targets import TargetError
from targets.copies import named_tensors
from targets.graph import Call, Graph
from targets.intervals import AFFINE, SIZES, Propagation, replaced, those_in
from targets.kaf import KAF
from targets.kwta import KWTA
from targets.pooling import MaxPooling
from targets.spectral import spectral_norms

_ISOMETRIES = """
    alpha_dropout clone contiguous detach double dropout dropout1d dropout2d dropout3d
    feature_alpha_dropout flatten movedim neg permute ravel reshape squeeze t transpose unflatten
    unsqueeze view
"""
ISOMETRIES = set(_ISOMETRIES.split())
"""What moves numbers to other places and leaves them as they are."""
SUMS = {"add", "sub"}
JOINS = {"cat", "concat", "stack", "maximum", "minimum"}
"""What changes at most as its inputs in one vector do."""
MAX_POOLS = {"max_pool1d", "max_pool2d", "max_pool3d"}


@dataclass(frozen=True)
class Factor:
    """What one operation contributes to the product: its layer's name and constants [B]."""

    name: str
    constants: Tensor


@dataclass(frozen=True)
class _Value:
    """What is known of a node at B images.

    Its derivative by the image is a matrix of norm at most `constants` [B], whose rows are then
    multiplied by at most `slopes` [B,...]. zeros: [B,...], of its shape.
    """

    zeros: Tensor
    constants: Tensor
    slopes: Tensor | None = None

    @classmethod
    def like(cls, value: Tensor, constants: Tensor, slopes: Tensor | None = None) -> Self:
        return cls(torch.zeros_like(value), constants, slopes)

    @property
    def whole(self) -> Tensor:
        """[B], its Lipschitz constants."""
        if self.slopes is None:
            return self.constants
        return self.constants * self.slopes.flatten(1).amax(1)


class ProductBound:
    """Lipschitz constants, in L2, of all nodes of a graph as functions of the image.

    A linear operation counts with its spectral norm on the input that it has here, batch norm
    together with the layer that it follows; an activation with its greatest slope; what branches
    meet in with their sum, or with the root of their squares where they stand side by side.

    Inside intervals around images an activation is as steep as its own interval allows, and the
    layer that follows counts with its norm on inputs that are multiplied by these slopes: what
    cannot be active is left out.

    Attributes:
        constants: [B] by node, if it depends on the image.
        factors: of the operations in order, but for those that change no length; for a network
            without branches the constants of the logits are their product.

    Args:
        graph: of the target.
        tensors: its parameters and buffers by name, in 64-bit numbers.
        images: [B,C,H,W], of which only the shape counts.
        rng: what spectral norms are begun with.
        around: the intervals of all nodes around B images; by default the constants hold
            everywhere, for which one image is enough.

    Raises:
        NotApplicable: the network is not continuous.
        TargetError: an operation without a constant, by its name and layer.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, Tensor],
        images: Tensor,
        rng: torch.Generator,
        around: Propagation | None = None,
    ):
        self.graph, self.tensors, self.rng, self.around = graph, tensors, rng, around
        self._factors: dict[Node, Factor] = {}
        self._maps: dict[Node, tuple[Any, _Value]] = {}  # linear, and what they are given
        start = _Value.like(images, images.new_ones(len(images)))
        values = graph.evaluate(tensors, start, self._step, _depends)
        last = values[graph.nodes[-1]]
        if not _depends(last):
            raise TargetError("cannot bound what is not one tensor of logits [B,K]")
        self.constants = {n: v.whole for n, v in values.items() if _depends(v)}

    @property
    def total(self) -> Tensor:
        """[B], of the logits."""
        return self.constants[self.graph.nodes[-1]]

    @property
    def factors(self) -> list[Factor]:
        return list(self._factors.values())

    def _step(self, call: Call) -> Any:
        values: list[_Value] = those_in((call.args, call.kwargs), _depends)
        if call.name in SIZES and call.function is not None:
            return self._applied(call)
        if call.name in ISOMETRIES:
            self._require_fixed(call)
            return self._moved(call, values[0])
        if call.name in SUMS | JOINS and not call.kwargs.get("alpha"):
            return self._joined(call, values)
        if (call.name in AFFINE or call.name == "batch_norm") and len(values) == 1:
            return self._affine(call, values[0])
        if len(values) != 1:
            raise self._refused(call)
        return self._nonlinear(call, values[0])

    def _moved(self, call: Call, value: _Value) -> _Value:
        slopes = None if value.slopes is None else self._applied(call, value.slopes).abs()
        return _Value.like(self._applied(call), value.constants, slopes)

    def _joined(self, call: Call, values: list[_Value]) -> _Value:
        like = self._applied(call)
        spread = call.name not in ("cat", "concat", "stack")  # a value may stand for several
        counts = [like.numel() / v.zeros.numel() if spread else 1.0 for v in values]
        each = torch.stack([v.whole * n**0.5 for v, n in zip(values, counts, strict=True)])
        return _Value.like(like, each.sum(0) if call.name in SUMS else each.norm(dim=0))

    def _affine(self, call: Call, value: _Value) -> _Value:
        self._require_fixed(call)
        if call.name in ("div", "truediv") and not _depends(call.args[0]):
            raise self._refused(call)
        shift = self._applied(call)
        linear, start = partial(self._linear, call, shift, value.slopes), value
        name, before = self._name(call.node), call.node.all_input_nodes[0]
        if call.name == "batch_norm" and before in self._maps:
            first, start = self._maps[before]
            linear = partial(_chained, first, linear)
            if len(before.users) == 1:
                name = f"{self._factors.pop(before).name} with {name}"
        else:
            self._maps[call.node] = linear, start
        zeros = start.zeros
        random = torch.randn(zeros.shape[1:], generator=self.rng, dtype=zeros.dtype)
        norms = spectral_norms(linear, random.to(zeros.device).expand_as(zeros))
        self._factors[call.node] = Factor(name, norms)
        return _Value.like(shift, start.constants * norms)

    def _linear(self, call: Call, shift: Tensor, slopes: Tensor | None, values: Tensor) -> Tensor:
        """An affine operation without its shift, which is what it makes of zeros."""
        return self._applied(call, values if slopes is None else values * slopes) - shift

    def _nonlinear(self, call: Call, value: _Value) -> _Value:
        """After an activation or max-pooling."""
        if call.function is None:
            slope = None
            if call.node.op == "call_module":
                slope = self._slope_of_layer(self.graph.layer(call.node))
            return self._times(call, value.zeros, value, slope)
        like = self._applied(call)
        if call.name in MAX_POOLS:
            if value.slopes is not None:
                value = replace(value, slopes=self._applied(call, value.slopes))
            return self._times(call, like, value, math.sqrt(_windows_of_a_pixel(call)))
        bounded = None if self.around is None else self.around.calls.get(call.node)
        within = None if bounded is None else slopes_within(bounded)
        if within is None:
            return self._times(call, like, value, greatest_slope(call))
        slopes = torch.maximum(within[0].abs(), within[1].abs())
        slopes = slopes if value.slopes is None else slopes * value.slopes
        return _Value.like(like, value.constants, slopes)

    def _times(self, call: Call, like: Any, value: _Value, slope: float | None) -> _Value:
        """After what changes at most `slope` times as much as its input, if that is known."""
        if slope is None or not isinstance(like, Tensor):
            raise self._refused(call)
        constants = value.constants * slope
        if slope != 1:
            constant = torch.full_like(constants, slope)
            self._factors[call.node] = Factor(self._name(call.node), constant)
        return _Value.like(like, constants, value.slopes)

    def _slope_of_layer(self, name: str) -> float | None:
        layer = self.graph.module.get_submodule(name)
        if isinstance(layer, KWTA):
            raise NotApplicable(
                "k-WTA jumps where one value overtakes another: nothing bounds how logits change"
            )
        if not isinstance(layer, KAF):
            return None
        own = {key: self.tensors[f"{name}.{key}"] for key, _ in named_tensors(layer)}
        return kaf_slope(layer, own)

    def _applied(self, call: Call, values: Tensor | None = None) -> Any:
        """What the operation makes of zeros, or of `values` in the place of its input."""
        if call.function is None:
            raise self._refused(call)

        def filled(value: Any) -> Any:
            if not isinstance(value, _Value):
                return value
            return value.zeros if values is None else values

        args, options = replaced((call.args, call.kwargs), filled)
        return call.function(*args, **options)

    def _require_fixed(self, call: Call) -> None:
        if call.kwargs.get("training") is True:  # dropout that draws, batch norm by the batch
            raise self._refused(call)

    def _refused(self, call: Call) -> TargetError:
        return TargetError(f"cannot bound {self.graph.place(call.node)}")

    def _name(self, node: Node) -> str:
        return self.graph.place(node).rpartition(" in layer ")[2]


def _depends(value: Any) -> bool:
    return isinstance(value, _Value)


def _chained(first: Any, second: Any, values: Tensor) -> Tensor:
    return second(first(values))


def _windows_of_a_pixel(call: Call) -> int:
    """In how many windows of max-pooling a value can be, at most."""
    pooling = MaxPooling.of(call)
    sides = zip(pooling.kernel, pooling.stride, pooling.dilation, strict=True)
    return math.prod(-(-size // (step // math.gcd(step, apart))) for size, step, apart in sides)
