"""What lies between two networks of a group: how far apart, and how much worse the middle is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.catalog import ANALYSES
from hypergen.evaluation.diversity import match_units, relative_distance
from hypergen.evaluation.sampler import CALIBRATION_IMAGES
from hypergen.evaluation.soup import barrier, soup
from hypergen.measures.attacked import accuracies
from hypergen.report.analysis import panels
from hypergen.report.labels import Label, along, boxes, place, settle
from hypergen.report.names import tails
from hypergen.report.palette import colour
from hypergen.runtime.progress import Progress
from targets import Population, TargetError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 9
"""Networks looked at from one end to the other, both ends included."""
SHARES = [index / (POINTS - 1) for index in range(POINTS)]
"""Of the other network in each."""
IMAGES = 1000
"""Test images that decide the accuracy of each, at most."""


@ANALYSES.register("connectivity")
class Connectivity(Analysis):
    """How much accuracy is lost between two networks of a group, in a straight line of weights.

    Each network is mixed with the next one of its group, the last with the first. The barrier is
    the greatest loss along the line against the straight line between both accuracies (Frankle et
    al. 2020, "Linear mode connectivity"). It is measured once more with the hidden units of the
    other network reordered to fit (weight matching of Ainsworth et al. 2023, "Git re-basin"), where
    the target is a plain chain of layers. Statistics of batch norm are measured anew.
    """

    title = "connectivity"
    figures = {
        "distance": "of the weights of a network and the next one, relative to their length; 1.414 "
        "for independent ones",
        "distance_matched": "the same, hidden units matched",
        "barrier": "points of accuracy lost in between, at most",
        "barrier_matched": "the same, hidden units matched",
    }
    cost = 15.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        population = group.population
        if len(population) < 2:
            raise NotApplicable("there is nothing between one network and itself")
        images = context.images(1)[0][None].expand(len(population), -1, -1, -1, -1)
        with torch.no_grad():
            if not population(images).isfinite().all():
                raise NotApplicable("the networks do not answer with finite numbers")
        count = len(population) if len(population) > 2 else 1  # of two networks there is one line
        progress.start(count)
        rows = []
        for index in range(count):
            rows.append(_between(population, index, (index + 1) % len(population), context))
            progress.advance()
        return rows

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        title = "Accuracy along straight lines between networks of a group"
        figure = panels(1, 2, f"{title}\n{context.caption(groups)}")
        names = [group.name for group in groups]
        shares = [100 * share for share in SHARES]
        kinds = {"line": "weights as they are", "line_matched": "hidden units matched"}
        plots, called = figure.subplots(1, 2, sharey=True), tails(names)
        plots[0].set_ylabel("accuracy (% of test images)")
        found = []
        for axes, (kind, said) in zip(plots, kinds.items(), strict=True):
            labels, covered = [], []
            for name in names:
                own = [row[kind] for row in rows if row["group"] == name and row[kind]]
                lines = [[*zip(shares, (100 * v for v in line), strict=True)] for line in own]
                for line in lines:
                    axes.plot(*zip(*line, strict=True), color=colour(name, names), alpha=0.6)
                    covered += along(line, 5)
                if lines:
                    lowest = min((line[POINTS // 2] for line in lines), key=lambda point: point[1])
                    labels.append(Label(called[name], lowest, colour(name, names)))
            axes.set_title(said, fontsize="small")
            axes.set_xlabel("share of the other network (%)")
            axes.grid(alpha=0.3)
            found.append((axes, labels, covered))
        settle(figure)
        for axes, labels, covered in found:
            place(axes, labels, boxes(axes, covered, 4))
        return figure


def _between(population: Population, first: int, second: int, context: Context) -> Row:
    one, other = population.theta[first], population.theta[second]
    line = _line(population, one, other, context)
    row: Row = {
        "other": second,
        "distance": relative_distance(one, other, population.layout),
        "barrier": 100 * barrier(SHARES, line),
        "line": line,
        "distance_matched": None,
        "barrier_matched": None,
        "line_matched": None,
    }
    matched = _matched(population, one, second, context)
    if matched is None:
        return row
    line = _line(population, one, matched, context)
    return row | {
        "distance_matched": relative_distance(one, matched, population.layout),
        "barrier_matched": 100 * barrier(SHARES, line),
        "line_matched": line,
    }


def _matched(population: Population, goal: Tensor, index: int, context: Context) -> Tensor | None:
    """The weights of a network, its hidden units near those of `goal` [D].

    None where these are not found: the target is no chain of layers, or what is reordered as if it
    were one computes something else.
    """
    network = population[index : index + 1]
    try:
        matched = match_units(goal, network.theta[0], population.layout)
    except TargetError:
        return None
    images = context.images()[0][None]
    with torch.no_grad():
        before, after = network(images), network.with_theta(matched[None])(images)
    size = float(before.abs().max())
    return matched if torch.allclose(before, after, rtol=0, atol=1e-4 * size) else None


def _line(population: Population, one: Tensor, other: Tensor, context: Context) -> list[float]:
    """The accuracies of the networks between two."""
    start, end = (
        population.choose([0] * POINTS).with_theta(theta.expand(POINTS, -1))
        for theta in (one, other)
    )
    images = context.dataset.calibration_images(CALIBRATION_IMAGES)
    mixed = soup(start, end, one.new_tensor(SHARES), images)
    return accuracies(mixed, *context.dataset.test.first(IMAGES)).tolist()
