"""What a generator makes of the points of a plane through its latent space."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.analysis.jacobian import in_double
from hypergen.analysis.regions import countable, density, pairs_of_classes
from hypergen.catalog import ANALYSES
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.statistics import kendall_tau
from hypergen.knob import KNOBS
from hypergen.measures.attacked import attack_population, predictions
from hypergen.report.analysis import panels
from hypergen.runtime.progress import Progress
from targets import Population
from targets.breakpoints import follow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 7
"""Points along each side of the plane."""
REACH = 2.5
"""How far the plane reaches from the mean of z, in standard deviations of a coordinate."""
IMAGES = 1000
"""Test images that decide accuracy and disagreement, at most."""
PART = 1 / 8
"""Of the way between two test images, in its middle, along which regions are counted."""


@ANALYSES.register("latent-map")
class LatentMap(Analysis):
    """Accuracy, robustness, V's estimates and linear regions over a plane of the latent space.

    The plane passes through the mean of z along two random directions at right angles; where the
    run has a range of beta or epsilon, it is one direction of z and that. Rows are the networks of
    its points.
    """

    title = f"latent map ({SIDE * SIDE} points of a plane)"
    figures = {
        "accuracy": "share of test images",
        "robustness": "share of attacked test images that stay right",
        "disagreement": "share of test images classed otherwise than by the plane's middle",
        "density": "linear regions per unit of length (L2) in the middle between two test images",
        "error": "by which V's estimate of robustness differs, in shares",
        "ranking": "Kendall's tau of V's estimates of robustness, over the plane",
    }
    cost = 35.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        sampler = group.sampler
        if sampler is None:
            raise NotApplicable("only samples of a run have a latent space")
        if sampler.config.objective.measures:
            raise NotApplicable("the run was trained for measures of its own")
        progress.start(SIDE + 2)
        across, up, z, preference = plane(sampler, context.rng())
        population = sampler.generate(z, preference)
        images, labels = context.images()
        masks = attack_population(population, images, labels, context.attack, context.seed)
        progress.advance(SIDE - 2)
        whole, whole_labels = context.dataset.test.first(IMAGES)
        classes = predictions(population, whole)
        apart = (classes != classes[len(classes) // 2]).double().mean(1)
        progress.advance()
        estimates, _ = sampler.estimate(population, context.dataset)
        progress.advance()
        finely = densities(population, context)
        progress.advance(2)
        robustness = masks.robust_accuracy.tolist()
        estimated = estimates[:, 1].tolist()
        tau = kendall_tau(estimated, robustness)
        accuracy = (classes == whole_labels).double().mean(1).tolist()
        return [
            {
                "across": float(across[index]),
                "up": float(up[index]),
                "accuracy": accuracy[index],
                "robustness": robustness[index],
                "disagreement": float(apart[index]),
                "density": finely[index],
                "estimated": estimated[index],
                "error": abs(estimated[index] - robustness[index]),
                "ranking": tau,
            }
            for index in range(len(z))
        ]

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        shown = {
            "accuracy": "accuracy (% of images)",
            "robustness": "robust accuracy, measured (% of images)",
            "estimated": "robust accuracy, as V estimates it (% of images)",
            "disagreement": "disagreement with the middle (% of images)",
            "density": "linear regions per unit length (L2)",
        }
        title = f"Networks over a plane of latent samples\n{context.caption(groups)}"
        figure = panels(len(groups), len(shown), title)
        grid = figure.subplots(len(groups), len(shown), squeeze=False)
        for group, line in zip(groups, grid, strict=True):
            own = [row for row in rows if row["group"] == group.name]
            upwards = _upwards(group.sampler)
            for axes, (name, said) in zip(line, shown.items(), strict=True):
                _map(axes, own, name, said, upwards)
        return figure


def plane(sampler: Sampler, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates across and up [N], z [N,Z] and preferences [N] of a plane's points."""
    latent: Any = sampler.models.generator.latent
    directions, _ = torch.linalg.qr(torch.randn(latent.size, 2, generator=rng))
    reach = torch.linspace(-REACH, REACH, SIDE)
    knob = sampler.config.knob
    ranged = knob.is_ranged
    levels = torch.linspace(knob.low, knob.high, SIDE) if ranged else reach
    up, across = (each.flatten() for each in torch.meshgrid(levels, reach, indexing="ij"))
    steps = torch.stack([across, torch.zeros_like(up) if ranged else up], dim=1)
    if directions.shape[1] < 2:  # a latent space of one dimension
        steps = steps[:, :1]
    z = latent.deviation * steps @ directions.T
    asked = up if ranged else torch.full_like(up, knob.low)
    return across, up, z, asked / knob.whole


def densities(population: Population, context: Context) -> list[float | None]:
    """Linear regions per unit of length in the middle between two images, network by network.

    None for networks that have none, or too many to be counted.
    """
    images, labels = context.images()
    images, population = images.double(), in_double(population)
    try:
        ((first, second),) = pairs_of_classes(labels, 1, context.rng())
        graph, tensors = countable(population, images)
    except NotApplicable:
        return [None] * len(population)
    middle, half = (images[first] + images[second]) / 2, PART / 2 * (images[second] - images[first])
    lines = (follow(graph, own, middle - half, middle + half) for own in tensors)
    return [density([line], [2 * half]) for line in lines]


def _upwards(sampler: Sampler | None) -> str:
    """What the second axis of the plane is."""
    assert sampler is not None  # a group without one is left out
    knob = sampler.config.knob
    return KNOBS[knob.name] if knob.is_ranged else "z along another (standard deviations)"


def _edges(rows: Sequence[Row], axis: str) -> tuple[float, float]:
    """Where the cells of the plane begin and end: its points are their centres."""
    low, high = rows[0][axis], rows[-1][axis]
    half = (high - low) / (SIDE - 1) / 2
    return low - half, high + half


def _map(axes: Any, rows: Sequence[Row], name: str, label: str, upwards: str) -> None:
    """One figure over the plane, as colours with a bar beside it; blank where it is unknown."""
    scale = 1 if name == "density" else 100
    known = [math.nan if row[name] is None else scale * row[name] for row in rows]
    values = torch.tensor(known).view(SIDE, SIDE).tolist()
    ends = [*_edges(rows, "across"), *_edges(rows, "up")]
    image = axes.imshow(values, origin="lower", aspect="auto", extent=ends)
    axes.figure.colorbar(image, ax=axes)
    axes.set_title(label, fontsize="small")
    axes.set_xlabel("z along one direction (standard deviations)", fontsize="small")
    axes.set_ylabel(upwards, fontsize="small")
