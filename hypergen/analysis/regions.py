"""Linear regions of piecewise-linear networks: how many, how large, and how far their borders."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.analysis.cell_borders import nearest_border
from hypergen.analysis.jacobian import in_double, jacobians
from hypergen.analysis.piecewise_linear import graph_and_tensors
from hypergen.analysis.slices import Plane, sliced
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import known_by_group, panels, points_by_group
from hypergen.report.names import tails
from hypergen.runtime.progress import Progress
from targets import Population
from targets.breakpoints import Line, follow
from targets.graph import Graph
from targets.linear_pieces import patterns
from targets.piecewise_linear import tensors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEGMENTS, BORDER_IMAGES, DECISION_IMAGES = 5, 3, 20
MAX_UNITS = 20_000
"""Activations and pooling windows of a network; the time grows with the square of their number."""
GRID = 50
"""Points of a side of a slice."""
ZOOM = 128
"""The second slice is a square of this part of the distance between the first two images."""
COLOURS = 20
"""That cells are shown in."""
SHOWN = {
    "density": "regions per unit length (L2)\nbetween test images",
    "density_attacked": "regions per unit length (L2)\nfrom test to attacked images",
    "border": "distance (L2) to the nearest\nborder of an image's cell",
    "decision": "distance (L2) to another class,\nto first order",
}
"""Figures in the picture, and the names of their axes."""


@ANALYSES.register("regions")
class Regions(Analysis):
    """How finely a network cuts the images into linear regions, and how far borders are.

    Along segments all breakpoints are solved for. Cells are sets of images with one activation
    pattern; neighbouring cells where the network has the same slope make one region.
    """

    title = "linear regions"
    figures = {
        "regions": "linear regions along a segment between test images of two classes, mean",
        "cells": "activation patterns along it, mean",
        "bound": "log10 of the most cells that a segment can pass, whatever the weights",
        "density": "regions per unit of length (L2) along these segments",
        "density_attacked": "the same, from test images to what an attack makes of them",
        "border": "distance (L2) to the nearest border of an image's cell, mean; exact",
        "touching": "borders that run through an image itself (equal numbers in a pooling window, "
        "as on a blank background), mean; not counted in `border`",
        "decision": "distance (L2) to where another class is as likely, mean; to first order, as "
        "if the image's region went on",
    }
    cost = 30.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        images, labels = context.images()
        if images[0].numel() < 2 or len(images) < 3:
            raise NotApplicable("regions are looked at between 3 images of at least 2 pixels")
        pairs = pairs_of_classes(labels, SEGMENTS, context.rng())
        population = in_double(group.population)
        graph, tensors = countable(population, images.double())
        few, their_labels = context.images(SEGMENTS)
        attacked = context.attacked(group.population, few, their_labels).double()
        images, few, found = images.double(), few.double(), []
        progress.start(len(population) * (len(pairs) + 1))
        for number, own in enumerate(tensors):
            lines = []
            for first, second in pairs:
                lines.append(follow(graph, own, images[first], images[second]))
                progress.advance()
            away = [follow(graph, own, *ends) for ends in zip(few, attacked[number], strict=True)]
            borders = [nearest_border(graph, own, image) for image in images[:BORDER_IMAGES]]
            row = {
                "regions": statistics.fmean(len(line.bends) + 1 for line in lines),
                "cells": statistics.fmean(line.cells for line in lines),
                "bound": lines[0].bound,
                "density": density(lines, [images[i] - images[j] for i, j in pairs]),
                "density_attacked": density(away, [*(attacked[number] - few)]),
                "border": _finite_mean([distance for distance, _ in borders]),
                "touching": statistics.fmean(count for _, count in borders),
                "decision": _decision(population[number : number + 1], images[:DECISION_IMAGES]),
            }
            if number == 0:
                row |= _slices(graph, tensors_of(group.population)[0], images, labels)
            found.append(row)
            progress.advance()
        return found

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        names = [group.name for group in groups]
        title = f"Linear regions, {context.caption(groups)}"
        figure = panels(3, max(4, len(names)), title)
        grid = figure.add_gridspec(3, 1)
        above, middle, below = (figure.add_subfigure(grid[row, 0]) for row in range(3))
        above.suptitle("How dense borders are, and how near to test images", fontsize="small")
        for axes, (key, label) in zip(above.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
            points_by_group(axes, names, known_by_group(rows, names, key), label)
        firsts = {row["group"]: row for row in rows if row["network"] == 0}
        _draw_planes(middle, firsts, context.dataset.info.class_names)
        below.suptitle(
            f"A square in the middle of the three, its side 1/{ZOOM} of the distance between the "
            f"first two: cells in {COLOURS} colours, black lines where the answer changes",
            fontsize="small",
        )
        called = tails(names)
        squares = below.subplots(1, len(firsts), squeeze=False)[0]
        for axes, (name, row) in zip(squares, firsts.items(), strict=True):
            axes.imshow(row["zoom_cells"], origin="lower", extent=row["zoom_box"], cmap="tab20")
            _draw_borders(axes, row["zoom_classes"], row["zoom_box"], "black")
            axes.set_title(f"{called[name]}: {row['zoom_count']} cells", fontsize="small")
        return figure


def countable(population: Population, images: Tensor) -> tuple[Graph, list[dict[str, Tensor]]]:
    """As `graph_and_tensors`, of networks in 64-bit numbers whose regions can be counted.

    Raises:
        NotApplicable: they are not piecewise linear, or have more than `MAX_UNITS`.
    """
    graph, tensors = graph_and_tensors(population, images)
    units = patterns(graph, tensors[0], images[:1])[1].shape[1]
    if units > MAX_UNITS:
        raise NotApplicable(
            f"regions are counted up to {MAX_UNITS:,} activations and pooling windows, "
            f"these networks have {units:,}"
        )
    return graph, tensors


def pairs_of_classes(labels: Tensor, count: int, rng: torch.Generator) -> list[tuple[int, int]]:
    """So many pairs of images of different classes, drawn anew each time."""
    labels = labels.cpu()
    every = (labels[:, None] != labels).nonzero()
    if not len(every):
        raise NotApplicable("regions are looked at between images of different classes")
    drawn = torch.randint(len(every), (count,), generator=rng)
    return [(int(first), int(second)) for first, second in every[drawn]]


def density(lines: Sequence[Line], steps: Sequence[Tensor]) -> float | None:
    """Regions by length along segments, of which `steps` lead from end to end."""
    moved = [
        (len(line.bends) + 1, float(step.norm())) for line, step in zip(lines, steps, strict=True)
    ]
    return _finite_mean([count / length for count, length in moved if length > 0])


def _decision(population: Population, images: Tensor) -> float | None:
    """How far images [B,C,H,W] are from where another class is as likely, mean, to first order."""
    logits, slopes = (values[0] for values in jacobians(population, images[None]))
    slopes = slopes.flatten(2)
    own = logits.argmax(1, keepdim=True)
    margins = logits.gather(1, own) - logits
    across = (slopes.gather(1, own[..., None].expand_as(slopes[:, :1])) - slopes).norm(dim=2)
    distances = (margins / across).scatter(1, own, torch.inf).amin(1)
    return _finite_mean(distances.tolist())


def _finite_mean(values: Sequence[float]) -> float | None:
    """The mean of what is finite; None where nothing is."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else None


def _slices(
    graph: Graph, tensors: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> dict[str, Any]:
    """What the picture shows of a network: the plane through three images, and a part of it."""
    chosen = _three(labels)
    plane = Plane.through(images[chosen].float())
    side = float(plane.points[1].norm()) / ZOOM
    box, near = plane.whole(), plane.around(plane.points.mean(0), side)
    whole, part = (sliced(graph, tensors, plane, each, GRID) for each in (box, near))
    return {
        "slice_points": plane.points.tolist(),
        "slice_labels": labels[chosen].tolist(),
        "slice_box": box.flatten().tolist(),
        "slice_classes": whole.classes.tolist(),
        "slice_changes": whole.changes.round().long().tolist(),
        "zoom_box": near.flatten().tolist(),
        "zoom_classes": part.classes.tolist(),
        "zoom_cells": (part.cells % COLOURS).tolist(),
        "zoom_count": int(part.cells.max()) + 1,
    }


def _three(labels: Tensor) -> list[int]:
    """Places of three images, the first of their classes as far as there are three classes."""
    places = {int(label): place for place, label in reversed([*enumerate(labels)])}
    firsts = sorted(places.values())
    return [*firsts, *(place for place in range(len(labels)) if place not in firsts)][:3]


def _draw_planes(part: Any, firsts: Mapping[str, Row], class_names: Sequence[str]) -> None:
    """How dense the borders of cells are in the plane of three images, a panel a group."""
    part.suptitle(
        "First network of each group in the plane through three test images (dots, with their "
        "classes), coordinates in L2: how many borders of cells are crossed per unit\nof length "
        "(colour), and where the answer changes (white). On the line through two images all pixels "
        "that only the third has change their sign, which makes it bright",
        fontsize="small",
    )
    changes = [each for row in firsts.values() for line in row["slice_changes"] for each in line]
    largest = statistics.quantiles(changes, n=50)[-1]  # the few above outshine the rest
    called = tails([*firsts])
    planes, shown = part.subplots(1, len(firsts), squeeze=False)[0], None
    for axes, (name, row) in zip(planes, firsts.items(), strict=True):
        box = row["slice_box"]
        shown = axes.imshow(row["slice_changes"], origin="lower", extent=box, vmin=0, vmax=largest)
        _draw_borders(axes, row["slice_classes"], box, "white")
        for (x, y), label in zip(row["slice_points"], row["slice_labels"], strict=True):
            axes.plot(x, y, "o", color="white", markeredgecolor="black")
            axes.annotate(
                class_names[label],
                (x, y),
                (5, 5),
                textcoords="offset points",
                color="white",
                bbox={"facecolor": "black", "alpha": 0.6, "pad": 1},
            )
        axes.set_title(called[name], fontsize="small")
    part.colorbar(shown, ax=planes, label="borders per unit length", extend="max")


def _draw_borders(
    axes: "Axes", classes: Sequence[Sequence[int]], box: Sequence[float], colour: str
) -> None:
    """Lines between the classes on a grid in a rectangle (left, right, bottom, top)."""
    for label in {each for line in classes for each in line}:
        inside = [[float(each == label) for each in line] for line in classes]
        if min(map(min, inside)) == 0:
            axes.contour(inside, [0.5], colors=colour, linewidths=1, extent=box)
