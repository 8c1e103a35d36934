"""Where a piecewise-linear target bends along a straight segment: all places, by solving.

Along x(t) = a + t (b - a) every number of the network is a piecewise-linear function of t, known
whole by its values at breakpoints. Affine operations keep the breakpoints of what they are given;
an activation adds one where a line crosses a knot, max-pooling one where another line of a window
comes to lie on top.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import Node

from targets.graph import Graph
from targets.kinks import Kinks, Windows
from targets.piecewise_linear import Rows, Walk

SAME_PLACE = 1e-12
"""Breakpoints so near to each other are one: units that bend together differ by rounding."""
ROUNDING = 1e-13
"""Of a layer's largest number: differences up to this are none."""
LEAST_BEND = 1e-13
"""Of the largest logit: what is nearer than that to a straight line is straight. Of a trained
convolutional network bends were seen at 1e-12, and rounding at 1e-15."""
MAX_NUMBERS, FEW_PLACES = 2**23, 64
"""Numbers at one node beyond which a segment is followed in halves, unless its places are few."""


@dataclass(frozen=True)
class Line:
    """What a network does along a segment.

    places: t of both ends and of every breakpoint between them, rising, [n].
    logits: there, [n,K]; in between they are affine.
    bound: the decimal logarithm of 1 + the most breakpoints that there can be, whatever the
        weights: in each of N + 1 parts, m units of k knots bend at most m k times, so the most are
        N + m k (N + 1), and where all activations have one knot, sum_i m_i prod_{j>i} (m_j + 1).
    """

    places: Tensor
    logits: Tensor
    bound: float

    @property
    def cells(self) -> int:
        """How many activation patterns the segment passes through."""
        return len(self.places) - 1

    @property
    def bends(self) -> Tensor:
        """Places where the logits change their slope, to rounding; those of a unit that the next
        layer does not hear do not."""
        before, after = self.places.diff()[:-1, None], self.places.diff()[1:, None]
        chord = (self.logits[:-2] * after + self.logits[2:] * before) / (before + after)
        apart = (self.logits[1:-1] - chord).abs().amax(1)
        return self.places[1:-1][apart > LEAST_BEND * self.logits.abs().max()]


def follow(graph: Graph, tensors: Mapping[str, Tensor], start: Tensor, end: Tensor) -> Line:
    """What a network does along the segment between images [C,H,W].

    Args:
        graph: of the target.
        tensors: the network's parameters and buffers by name, 64-bit as the images.

    Raises:
        TargetError: as `Walk.logits`.
    """
    return _followed(graph, tensors, start, end, 0.0, 1.0)


def _followed(
    graph: Graph, tensors: Mapping[str, Tensor], start: Tensor, end: Tensor, low: float, high: float
) -> Line:
    places = start.new_tensor([low, high])
    images = start + places.view(-1, 1, 1, 1) * (end - start)
    walk = _Path(graph, tensors)
    try:
        rows = walk.logits(Rows(images[:, None], places))
    except _TooLong:
        middle = (low + high) / 2
        first = _followed(graph, tensors, start, end, low, middle)
        second = _followed(graph, tensors, start, end, middle, high)
        places = torch.cat([first.places[:-1], second.places[1:]])
        return Line(places, torch.cat([first.logits[:-1], second.logits[1:]]), first.bound)
    assert rows.places is not None
    return Line(rows.places, rows.values[:, 0], walk.bound)


class _TooLong(Exception):
    """More numbers than are held at once."""


class _Path(Walk):
    """Carries values at breakpoints, adding those of every kink.

    Attributes:
        bound: as `Line` has it.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]):
        super().__init__(graph, tensors)
        self.bound = 0.0

    def kinked(self, node: Node, kinks: Kinks, rows: Rows) -> Rows:
        self.bound += math.log10(1 + rows.values[0].numel() * len(kinks.knots))
        rows = _with_places(rows, torch.cat([_crossings(rows, knot) for knot in kinks.knots]))
        return Rows(kinks.apply(rows.values, kinks.piece(rows.values)), rows.places)

    def pooled(self, node: Node, windows: Windows, rows: Rows) -> Rows:
        lines, choice = Rows(windows.candidates(rows.values), rows.places), windows.table.shape[1]
        self.bound += math.log10(1 + lines.values[0].numel() // choice * (choice - 1))
        lines = _with_places(lines, _overtakings(lines))
        return Rows(lines.values.amax(-1).unflatten(-1, windows.shape), lines.places)

    def aligned(self, rows: Sequence[Rows]) -> Sequence[Rows]:
        if len(rows) == 1:
            return rows
        others = torch.cat([_places(each) for each in rows[1:]])
        places = _merged(_places(rows[0]), others)
        return [_at(each, places) for each in rows]


def _places(rows: Rows) -> Tensor:
    assert rows.places is not None
    return rows.places


def _tolerance(values: Tensor) -> Tensor:
    low, high = values.aminmax()
    return ROUNDING * torch.maximum(-low, high)


def _crossings(rows: Rows, knot: Any) -> Tensor:
    """Where lines cross a knot, [N] in any order."""
    values, places, tolerance = rows.values - knot, _places(rows), _tolerance(rows.values)
    interval, *unit = ((values[:-1] * values[1:]) < 0).nonzero(as_tuple=True)
    first, second = values[(interval, *unit)], values[(interval + 1, *unit)]
    found = torch.lerp(places[interval], places[interval + 1], first / (first - second))
    return found[torch.minimum(first.abs(), second.abs()) > tolerance]


def _overtakings(rows: Rows) -> Tensor:
    """Where another of the k lines [n,...,k] comes to lie on top, [N] in any order.

    Between two places it is the line on top at the beginning that meets the one on top at the end,
    unless a third lies above them there; it is then looked for on both sides.
    """
    lines, places, tolerance = rows.values, _places(rows), _tolerance(rows.values)
    first, last = (
        _on_top(*ends, tolerance) for ends in ((lines[:-1], lines[1:]), (lines[1:], lines[:-1]))
    )
    changes = first != last
    interval, *window = changes.nonzero(as_tuple=True)
    left, right = lines[(interval, *window)], lines[(interval + 1, *window)]
    low, high = places[interval], places[interval + 1]
    found = [places[:0]]
    while len(left):
        first, last = _on_top(left, right, tolerance), _on_top(right, left, tolerance)
        ahead = _pick(left, first) - _pick(left, last)
        behind = _pick(right, last) - _pick(right, first)
        meets = (ahead > tolerance) & (behind > tolerance)
        share = ahead / torch.where(meets, ahead + behind, 1.0)
        middle, place = torch.lerp(left, right, share[:, None]), torch.lerp(low, high, share)
        topped = meets & (middle.amax(-1) > _pick(middle, first) + tolerance)
        found.append(place[meets & ~topped])
        left, right = (
            torch.cat([left[topped], middle[topped]]),
            torch.cat([middle[topped], right[topped]]),
        )
        low, high = (
            torch.cat([low[topped], place[topped]]),
            torch.cat([place[topped], high[topped]]),
        )
    return torch.cat(found)


def _on_top(here: Tensor, there: Tensor, tolerance: Tensor) -> Tensor:
    """Which of k lines [...,k] lies on top just beside this end, on the side of the other."""
    tied = here >= here.amax(-1, keepdim=True) - tolerance
    return there.masked_fill(~tied, -torch.inf).argmax(-1)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(-1, index[..., None])[..., 0]


def _with_places(rows: Rows, more: Tensor) -> Rows:
    """The same lines with values at more places too."""
    places = _merged(_places(rows), more)
    if len(places) > FEW_PLACES and len(places) * rows.values[0].numel() > MAX_NUMBERS:
        raise _TooLong
    return _at(rows, places)


def _merged(places: Tensor, more: Tensor) -> Tensor:
    """Rising places and others, of which those that are as good as there are left out."""
    more = more.sort().values
    after = torch.searchsorted(places, more).clamp(1, len(places) - 1)
    apart = torch.minimum((more - places[after - 1]).abs(), (places[after] - more).abs())
    more = more[apart > SAME_PLACE]
    more = more[more.diff(prepend=places[:1] - 1) > SAME_PLACE]
    return torch.cat([places, more]).sort().values


def _at(rows: Rows, places: Tensor) -> Rows:
    """The values at other places, between the first and the last."""
    known = _places(rows)
    before = (torch.searchsorted(known, places, right=True) - 1).clamp(0, len(known) - 2)
    share = (places - known[before]) / (known[before + 1] - known[before])
    first, second = rows.values[before], rows.values[before + 1]
    share = share.view(-1, *[1] * (first.ndim - 1))
    return Rows(torch.lerp(first, second, share), places)  # at a known place exactly what is known
