"""Linear regions along lines through a trained network: solved for, and seen on a fine grid.

Between random pairs of test images, `targets.breakpoints.follow` solves for every place where the
activation pattern changes. Beside it stand the patterns of plain forward passes on a million even
points: which ReLUs are on, and which place each window of max-pooling chooses. All images of one
pattern are convex, so of points with one pattern at both ends none between has another: the grid is
searched by halving, which finds what evaluating every point finds, as is checked on some lines
(`whole`). Where the grid sees fewer, several breakpoints lie between two of its points; there a
second grid is laid.

    HYPERGEN_DATA=... python -m scripts.studies.region_counts
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional as F

from hypergen.config import DataConfig
from hypergen.report.tables import Table
from hypergen.training.direct_config import BaselineConfig
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    device,
    ensure_same_settings,
    load,
    publish,
    run,
    trained,
)
from targets import Population
from targets.breakpoints import Line, follow
from targets.graph import Graph
from targets.piecewise_linear import tensors_of

CHUNK = 500
"""Images that are evaluated at once."""
SAME_SLOPE = 1e-9
"""Of the steepest: slopes as near as this are one."""


@dataclass(frozen=True)
class StudyConfig:
    """Which network is looked at, and how finely."""

    quick: bool = False
    """lines and points cut down to half a minute on one core"""
    network: BaselineConfig = field(
        default_factory=lambda: BaselineConfig("standard", DataConfig("mnist"), epochs=3)
    )
    """how it is trained"""
    lines: int = 100
    """random pairs of test images"""
    points: int = 1_000_000
    """of the grid of a line"""
    finer: int = 10_000
    """of the grid between two of these points"""
    whole: int = 1
    """lines, the first, on which every point is evaluated too: minutes each"""
    seed: int = 0
    """of the pairs"""
    work: Path = Path("runs/region-counts")
    """folder of the network and of each line's figures"""
    out: Path = RESULTS / "region_counts.json"
    """the figures as JSON"""


QUICK = StudyConfig(
    quick=True,
    network=BaselineConfig("standard", DataConfig("digits"), epochs=2),
    lines=5,
    points=2_000,
    finer=1_000,
    whole=2,
)


@dataclass(frozen=True)
class Points:
    """Even points of a segment from an image [C,H,W] along a way [C,H,W], or of a part of it.

    None is at an end, for a test image may lie on borders itself, by equal numbers in a pooling
    window: point i is at low + (i + 1/2) * (high - low) / count.
    """

    module: nn.Module
    start: Tensor
    way: Tensor
    count: int
    low: float = 0.0
    high: float = 1.0

    def place(self, indices: Any) -> Any:
        """Where points are, from 0 to 1."""
        return self.low + (indices + 0.5) * ((self.high - self.low) / self.count)

    def images(self, indices: Tensor) -> Iterator[Tensor]:
        """Of the points of these indices [n], in chunks [b,C,H,W]."""
        for chunk in indices.double().split(CHUNK):
            yield self.start + self.place(chunk).view(-1, 1, 1, 1) * self.way

    def between(self, index: int, count: int) -> "Points":
        """So many points between that of an index and the next."""
        ends = {"low": self.place(index), "high": self.place(index + 1)}
        return replace(self, count=count, **ends)

    def patterns(self, indices: Tensor) -> Tensor:
        """A number for the activation pattern of each point, [n]."""
        return torch.cat([hashed(self.module, images) for images in self.images(indices)])

    def slopes(self, indices: Tensor) -> Tensor:
        """By how much the logits change along the way at each point, [n,K]."""
        each = self.images(indices)
        return torch.cat([jvp(self.module, (x,), (self.way.expand_as(x),))[1] for x in each])


def hashed(module: nn.Module, images: Tensor) -> Tensor:
    """A number for each image's pattern: which ReLUs are on, and which places pools choose."""
    sums = torch.zeros(len(images), dtype=torch.int64)
    rng = torch.Generator().manual_seed(0)

    def note(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        (values,) = inputs
        if isinstance(layer, nn.MaxPool2d):
            options = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            _, seen = F.max_pool2d_with_indices(values, *options, layer.ceil_mode)  # pyright: ignore
        else:
            seen = values > 0
        seen = seen.flatten(1).long()
        factors = torch.randint(-(2**62), 2**62, seen.shape[1:], generator=rng)
        sums.add_((seen * factors).sum(1))  # which may overflow

    bent = [each for each in module.modules() if isinstance(each, nn.ReLU | nn.MaxPool2d)]
    hooks = [layer.register_forward_hook(note) for layer in bent]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def by_halving(points: Points) -> Tensor:
    """The indices of points after which another pattern follows, rising."""
    low, high = torch.tensor([0]), torch.tensor([points.count - 1])
    before, after = points.patterns(low), points.patterns(high)
    found = []
    while len(low):
        differs = before != after
        low, high, before, after = (each[differs] for each in (low, high, before, after))
        done = high - low == 1
        found.append(low[done])
        low, high, before, after = (each[~done] for each in (low, high, before, after))
        middle = (low + high) // 2
        between = points.patterns(middle) if len(middle) else middle
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
        before, after = torch.cat([before, between]), torch.cat([between, after])
    return torch.cat(found).sort().values


def one_by_one(points: Points) -> Tensor:
    """The same, of the patterns of all points."""
    patterns = points.patterns(torch.arange(points.count))
    return (patterns[1:] != patterns[:-1]).nonzero().flatten()


def seen(points: Points) -> dict[str, Tensor]:
    """The indices of points after which another cell follows, and another region: another slope.

    Of a cell's slope its middle point speaks.
    """
    changes = by_halving(points)
    first = torch.cat([changes.new_zeros(1), changes + 1])
    last = torch.cat([changes, changes.new_tensor([points.count - 1])])
    slopes = points.slopes((first + last) // 2)
    turns = slopes.diff(dim=0).abs().amax(1) > SAME_SLOPE * slopes.abs().max()
    return {"cells": changes, "regions": changes[turns]}


def counted(points: Points, line: Line, finer: int) -> dict[str, Any]:
    """Cells and regions of a line, as solved for and as its points show them.

    Returns for each of the two: solved and grid, how many there are; crowded, spaces between
    neighbouring points with several breakpoints; refined, those of them where a grid of `finer`
    points shows all of these; outside, breakpoints before the first point or after the last; odd,
    other spaces with a breakpoint that was only solved for, or only seen.
    """
    found, grid = {}, seen(points)
    for name, places in (("cells", line.places[1:-1]), ("regions", line.bends)):
        spaces = torch.floor(places * points.count - 0.5).long()
        inside = (spaces >= 0) & (spaces < points.count - 1)
        spaces, numbers = spaces[inside].unique(return_counts=True)
        solved = dict(zip(spaces.tolist(), numbers.tolist(), strict=True))
        crowded = [space for space, number in solved.items() if number > 1]
        shown = set(grid[name].tolist())
        found[name] = {
            "solved": len(places) + 1,
            "grid": len(shown) + 1,
            "crowded": len(crowded),
            "refined": sum(
                len(seen(points.between(space, finer))[name]) == solved[space] for space in crowded
            ),
            "outside": int((~inside).sum()),
            "odd": len((solved.keys() ^ shown) - {*crowded}),
        }
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A line for cells, and one for regions."""
    lines = []
    for name in ("cells", "regions"):
        rows = [row[name] for row in found]
        more = sum(row["solved"] > row["grid"] for row in rows)
        fewer = sum(row["solved"] < row["grid"] for row in rows)
        sums = (
            sum(row[figure] for row in rows) for figure in ("crowded", "refined", "outside", "odd")
        )
        lines.append((name, len(rows) - fewer - more, more, fewer, *sums))
    headers = ("of", "equal", "more solved", "fewer solved", "crowded", "refined", "outside", "odd")
    notes = [
        f"lines, of {len(found)}: equal, more solved, fewer solved",
        "spaces between points: crowded by several breakpoints; refined, of these, where a finer "
        "grid shows them all; odd, where else solving and the grid differ",
        "breakpoints outside the grid: before its first point or after its last",
    ]
    return Table(headers, [tuple(map(str, line)) for line in lines], notes)


def main(config: StudyConfig) -> None:
    """Counts on every line, prints what came out and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.network.data, device())
    path = config.work / "network.safetensors"
    module = trained(path, config.network, dataset, device()).cpu().double().eval()
    module.requires_grad_(False)
    population = Population.of([module])
    graph, (tensors,) = Graph.of(population), tensors_of(population)
    images = dataset.test.images.cpu().double()
    rng = torch.Generator().manual_seed(config.seed)
    pairs = [torch.randperm(len(images), generator=rng)[:2] for _ in range(config.lines)]
    ends = [images[pair] for pair in pairs]
    lines = [Points(module, start, end - start, config.points) for start, end in ends]

    def count(number: int) -> dict[str, Any]:
        return counted(lines[number], follow(graph, tensors, *ends[number]), config.finer)

    def compare(number: int) -> dict[str, Any]:
        points = lines[number]
        return {"same": bool(torch.equal(one_by_one(points), by_halving(points)))}

    work = config.work
    found = [
        cached_json(cell(work, f"line {number}"), partial(count, number))
        for number in range(config.lines)
    ]
    whole = [
        cached_json(cell(work, f"whole {number}"), partial(compare, number))["same"]
        for number in range(config.whole)
    ]
    print(table(found))
    print(f"halving finds what every point of a line shows: {whole}")
    publish(config.out, settings, {"lines": found, "whole": whole})


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
