"""How soon networks are sure of images that mean nothing.

Source: Nguyen, Yosinski, Clune 2015, "Deep neural networks are easily fooled: high confidence
predictions for unrecognizable images".
"""

import math
import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hypergen.analysis.base import Analysis, Context, Group, Row
from hypergen.analysis.fooling_search import Search, ascend, evolve, pattern_size, patterns
from hypergen.analysis.jacobian import in_double
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.report.palette import colour, for_text
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import Progress
from targets import Population, max_workers, parallel_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = 0.99
"""What fools a network."""
ROUNDING = 1e-5
"""By which a search goes beyond that, so that it holds in 64 bits too."""
BUDGET = 1000
"""Images that a method may show a network for a class."""
MAX_CLASSES = 5
"""The first classes are tried."""
METHODS = {
    "direct": "a genetic algorithm on pixels",
    "pattern": "a genetic algorithm on networks that paint patterns",
    "gradient": "gradient ascent from noise",
}


@ANALYSES.register("fooling")
class Fooling(Analysis):
    """How many images a network looks at until it is sure of one that means nothing.

    What a search ends with has no meaning by how it is made; robust networks sometimes ask for what
    looks like their class.
    """

    title = "fooling images"
    figures = {
        **{
            method: f"images that {how} shows until one has confidence {CONFIDENCE}, median over "
            f"classes; {BUDGET} stands for none within so many"
            for method, how in METHODS.items()
        },
        **{
            f"{method}_found": f"share of classes for which {how} finds one"
            for method, how in METHODS.items()
        },
    }
    cost = 25.0

    @full_precision()
    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        """The `figures`, and by class what each method needed and reached.

        These are METHOD_evaluations and METHOD_confidences, [K]; the first network of a group has
        METHOD_images besides, [K,C,H,W] in 8-bit numbers.
        """
        population = group.population
        progress.start(len(METHODS) * len(population))
        rows: list[Row] = [{} for _ in range(len(population))]
        for method in METHODS:
            run = partial(_searched, method, context)
            chunks = (chunk for _, chunk in population.chunks())
            done = parallel_map(run, chunks, max_workers(population.theta.device))
            found = (
                each
                for search in done
                for each in zip(search.images, search.evaluations, strict=True)
            )
            judges = in_double(population)
            for row, network, (images, evaluations) in zip(rows, judges, found, strict=True):
                row |= _figures(method, network, images, evaluations)
                if row is rows[0]:
                    row[f"{method}_images"] = (255 * images).round().int().tolist()
                progress.advance()
        return rows

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """What was found for the first network of each group."""
        names = [group.name for group in groups]
        firsts = {row["group"]: row for row in rows if row["network"] == 0}
        columns = context.dataset.class_names[: _classes(context)]
        title = (
            "Images made from noise and patterns until the first network of a group\n"
            f"is sure of the class above: its confidence, and in which of {BUDGET} tries\n"
            f"{context.caption(groups)}"
        )
        count = len(names) * len(METHODS)
        figure = panels(count, len(columns), title, (max(1.3, 7 / len(columns)), 1.25))
        grid = figure.subplots(count, len(columns), squeeze=False)
        called = tails(names)
        kinds = ((name, method) for name in names for method in METHODS)
        for axes_row, (name, method) in zip(grid, kinds, strict=True):
            _draw_row(axes_row, method, firsts[name])
            label, hue = f"{called[name]}\n{method}", for_text(colour(name, names))
            axes_row[0].set_ylabel(label, fontsize="small", color=hue)
        for axes, column in zip(grid[0], columns, strict=True):
            axes.set_title(column, fontsize="small")
        return figure


def _classes(context: Context) -> int:
    return min(context.dataset.num_classes, MAX_CLASSES)


def _searched(method: str, context: Context, population: Population) -> Search:
    """What a method finds for these networks."""
    shape, enough = context.dataset.input_shape, math.log(CONFIDENCE + ROUNDING)
    search = Search(population, shape, _classes(context), BUDGET, enough)
    if method == "gradient":
        ascend(search, context.rng())
    elif method == "pattern":
        evolve(search, pattern_size(shape), partial(patterns, shape=shape), context.rng())
    else:
        evolve(search, math.prod(shape), lambda genes: genes.unflatten(-1, shape), context.rng())
    return search


def confidences(network: nn.Module, images: Tensor) -> Tensor:
    """How sure a network of 64-bit weights is that image i of [K,C,H,W] is of class i, [K]."""
    with torch.no_grad():
        return network(images.double()).softmax(-1).diagonal()


def _figures(method: str, network: nn.Module, images: Tensor, evaluations: Tensor) -> Row:
    """Those of a method for a network; what is not found in 64 bits is not found."""
    sure = confidences(network, images)
    found = sure >= CONFIDENCE
    counts = torch.where(found, evaluations, BUDGET).tolist()
    return {
        method: statistics.median(counts),
        f"{method}_found": float(found.double().mean()),
        f"{method}_evaluations": counts,
        f"{method}_confidences": sure.tolist(),
    }


def _draw_row(axes_row: Sequence["Axes"], method: str, row: Row) -> None:
    """What a method found for the classes: in colour where there are three channels, else grey."""
    images = torch.tensor(row[f"{method}_images"], dtype=torch.float64) / 255
    labels = zip(row[f"{method}_confidences"], row[f"{method}_evaluations"], strict=True)
    for axes, image, (confidence, count) in zip(axes_row, images, labels, strict=True):
        shown = image.permute(1, 2, 0) if len(image) == 3 else image.mean(0)
        axes.imshow(shown.tolist(), cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        text = f"try {count}" if confidence >= CONFIDENCE else "not found"
        axes.set_xlabel(f"{confidence:.3f}, {text}", fontsize="x-small")
