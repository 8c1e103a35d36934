"""Where operations bend: the knots of activations, and the windows of max-pooling."""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from targets.graph import Call
from targets.intervals import KINKED, slope_below
from targets.pooling import MaxPooling

_CLAMPS = {
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "clamp": {"min": None, "max": None},
}
"""Names of the lower and the upper end, and what these are unless a target says."""
_ACTIVATIONS = KINKED | _CLAMPS.keys() | {"hardsigmoid", "relu6"}
_POOLINGS = {"max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"}


@dataclass(frozen=True)
class Kinks:
    """An activation that is slope * x + shift between any two neighbouring knots.

    knots: rising; slopes and shifts: of the pieces, one more. Numbers, or tensors that fit x.
    """

    knots: tuple[Any, ...]
    slopes: tuple[Any, ...]
    shifts: tuple[Any, ...]

    def piece(self, values: Tensor) -> Tensor:
        """Which piece numbers lie on, of the shape of `values`; on a knot that before it."""
        return sum((values > knot).to(torch.uint8) for knot in self.knots)  # pyright: ignore

    def apply(self, values: Tensor, piece: Tensor) -> Tensor:
        """What these pieces make of numbers, whether or not they lie on them."""
        found, *others = (
            _line(values, slope, shift)
            for slope, shift in zip(self.slopes, self.shifts, strict=True)
        )
        for index, other in enumerate(others, start=1):
            found = torch.where(piece == index, other, found)
        return found


@dataclass(frozen=True)
class Windows:
    """The windows of a max-pooling.

    table: [O,k], places in a plane of values; shape: of the O windows, such as (height, width).
    """

    table: Tensor
    shape: tuple[int, ...]

    def candidates(self, values: Tensor) -> Tensor:
        """What every window chooses from: [...,C,H,W] -> [...,C,O,k]."""
        flat = values.flatten(values.ndim - len(self.shape))
        return flat.index_select(-1, self.table.flatten()).unflatten(-1, self.table.shape)

    def winners(self, values: Tensor) -> Tensor:
        """The first place of the greatest value in each window, [...,C,O]."""
        return self.candidates(values).argmax(-1)

    def choose(self, values: Tensor, winners: Tensor) -> Tensor:
        """What stands at these places in each window, of the shape of the pooled values."""
        chosen = self.candidates(values).gather(-1, winners[..., None])[..., 0]
        return chosen.unflatten(-1, self.shape)


def kinks_of(call: Call) -> Kinks | None:
    """The kinks of an activation of one tensor; None where it is no such activation."""
    if call.name not in _ACTIVATIONS:
        return None
    if call.name == "hardsigmoid":
        return Kinks((-3.0, 3.0), (0.0, 1 / 6, 0.0), (0.0, 0.5, 1.0))
    if call.name in KINKED:
        return Kinks((0.0,), (slope_below(call), 1.0), (0.0, 0.0))
    low, high = (0.0, 6.0) if call.name == "relu6" else _ends(call)
    knots, slopes, shifts = (), (1.0,), (0.0,)
    if low is not None:
        knots, slopes, shifts = (low,), (0.0, 1.0), (low, 0.0)
    if high is not None:
        knots, slopes, shifts = (*knots, high), (*slopes, 0.0), (*shifts, high)
    return Kinks(knots, slopes, shifts)


def _ends(call: Call) -> list[Any]:
    """Where a clamp begins and ends; None where it does not."""
    options = enumerate(_CLAMPS[call.name].items(), start=1)
    return [
        call.args[place] if len(call.args) > place else call.kwargs.get(name, usual)
        for place, (name, usual) in options
    ]


def windows_of(call: Call) -> Windows | None:
    """The windows of a max-pooling of one tensor; None for any other operation."""
    if call.name not in _POOLINGS:
        return None
    values: Tensor = call.args[0]
    dims = int(call.name[-2])
    sizes = tuple(values.shape[-dims:])
    args, options = call.args[1:], call.kwargs
    assert call.function is not None
    pooled = call.function(torch.zeros(1, 1, *sizes), *args, **options)
    if not isinstance(pooled, Tensor):  # and the places
        return None
    shape = tuple(pooled.shape[2:])
    geometry = None
    if not call.name.startswith("adaptive"):
        geometry = MaxPooling.of(call)[:4]
    return Windows(_table(sizes, shape, geometry).to(values.device), shape)


@functools.cache
def _table(
    sizes: tuple[int, ...], shape: tuple[int, ...], geometry: tuple[tuple[int, ...], ...] | None
) -> Tensor:
    """Places in a plane of `sizes` that each of the windows of `shape` chooses from, [O,k].

    A window with fewer places than others has its first one again and again. geometry: kernel,
    stride, padding and dilation, each by dimension; None for an adaptive pooling.
    """
    spans: list[list[list[int]]] = []
    for dim, (size, count) in enumerate(zip(sizes, shape, strict=True)):
        if geometry is None:
            ends = [(i * size // count, -(-(i + 1) * size // count), 1) for i in range(count)]
        else:
            kernel, stride, padding, dilation = (option[dim] for option in geometry)
            starts = [i * stride - padding for i in range(count)]
            ends = [(start, start + kernel * dilation, dilation) for start in starts]
        spans.append([[p for p in range(*each) if 0 <= p < size] for each in ends])
    places = torch.arange(math.prod(sizes)).view(sizes)
    windows = [
        [int(places[point]) for point in itertools.product(*window)]
        for window in itertools.product(*spans)
    ]
    longest = max(map(len, windows))
    return torch.tensor([each + each[:1] * (longest - len(each)) for each in windows])


def _line(values: Tensor, slope: Any, shift: Any) -> Any:
    """slope * x + shift; a number where that is all it is."""
    if isinstance(slope, float) and slope == 0:
        return shift
    scaled = values if isinstance(slope, float) and slope == 1 else slope * values
    return scaled if isinstance(shift, float) and shift == 0 else scaled + shift
