"""Lipschitz constants: by how much logits can change with the image, in L2."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergen.analysis.base import Analysis, Context, Group, Row
from hypergen.analysis.jacobian import in_double, jacobians
from hypergen.analysis.lipschitz_local import local_bounds
from hypergen.analysis.lipschitz_product import ProductBound
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.report.palette import colour, for_text
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import Progress
from targets import Population, TargetError
from targets.graph import Graph
from targets.intervals import Interval, Propagation
from targets.piecewise_linear import tensors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = 20
"""Looked at, at most: a Jacobian each takes a backward pass for every class."""
LEVELS = {
    "product_bound": "product bound",
    "local_bound": "local bound",
    "jacobian": "largest\nJacobian",
    "change": "largest change\nunder attack",
}
"""In the picture, from what is allowed to what is seen."""


@ANALYSES.register("lipschitz")
class Lipschitz(Analysis):
    """How strongly logits can react to the image: what layers allow, and what is seen."""

    title = "Lipschitz constants"
    figures = {
        "product_bound": "most that the logits can change per change of the image, both in L2, "
        "by the norms of all layers",
        "local_bound": "the same inside the threat of an image, by intervals; largest of the "
        "images",
        "jacobian": "largest norm of the logits' derivatives at images, clean and attacked",
        "change": "largest change of the logits per change of the image, from clean to attacked",
        "certified_radius": "distance in L2, for pixels in [0,1], at which the product bound first "
        "lets the answer change; mean of images, 0 where it is wrong",
    }
    cost = 20.0

    @full_precision()
    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        """Beside the figures `layers` and `norms`: what makes up the product bound, in order.

        `local_bound` is None where an operation has no intervals.
        """
        graph = Graph.of(group.population)
        images, labels = context.images(IMAGES)
        population = in_double(group.population)
        products = self._products(graph, population, images.double(), context, progress)
        attacked = context.attacked(group.population, images, labels).double()
        images = images.double()
        return [
            {
                "layers": [factor.name for factor in product.factors],
                "norms": [float(factor.constants) for factor in product.factors],
                "product_bound": float(product.total),
                "local_bound": _local(product, images, context),
                **_seen(population[number : number + 1], images, attacked[number]),
                "certified_radius": _radius(
                    population[number : number + 1], images, labels, float(product.total)
                ),
            }
            for number, product in enumerate(products)
        ]

    def _products(
        self,
        graph: Graph,
        population: Population,
        images: Tensor,
        context: Context,
        progress: Progress,
    ) -> list[ProductBound]:
        """Of each network, each with the same random numbers, so that none depends on others."""
        progress.start(len(population))
        found = []
        for tensors in tensors_of(population):
            found.append(ProductBound(graph, tensors, images[:1], context.rng()))
            progress.advance()
        return found

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """Norms by layer, a line a group; beside them what these allow and what is seen."""
        title = "How strongly logits react to the image: layers, bounds, and what is seen"
        figure = panels(1, 2, f"{title}\n{context.caption(groups)}", size=(6.0, 4.2))
        left, right = figure.subplots(1, 2)
        names = [group.name for group in groups]
        own = {name: [row for row in rows if row["group"] == name] for name in names}
        _draw_layers(left, own)
        _draw_levels(right, own)
        return figure


def _local(product: ProductBound, images: Tensor, context: Context) -> float | None:
    """The largest local bound around images [N,C,H,W]; None without intervals.

    The interval of pixels holds the balls of all norms.
    """
    graph, tensors, epsilon = product.graph, product.tensors, context.threat.epsilon
    around = Interval((images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1))
    try:
        propagation = Propagation(graph, tensors, images, around)
    except TargetError:
        return None
    inside = ProductBound(graph, tensors, images, context.rng(), propagation)
    return float(local_bounds(propagation, inside.constants).minimum(product.total).max())


def _seen(network: Population, images: Tensor, attacked: Tensor) -> Row:
    """What one network does at images [N,C,H,W] and between them and attacked ones."""
    points = torch.cat([images, attacked])
    logits, derivatives = jacobians(network, points[None])
    norms = torch.linalg.matrix_norm(derivatives[0].flatten(2), 2)
    clean, moved = logits[0].chunk(2)
    way = (attacked - images).flatten(1).norm(dim=1)
    change = (moved - clean).norm(dim=1) / way
    return {
        "jacobian": float(norms.max()),
        "change": float(change[way > 0].max()) if (way > 0).any() else 0.0,
    }


@torch.no_grad()
def _radius(network: Population, images: Tensor, labels: Tensor, bound: float) -> float:
    """The mean distance at which a bound first lets the answer change; a margin of sqrt(2) each.

    A difference of two logits changes at most sqrt(2) times as much as all of them.
    """
    logits = network(images[None])[0]
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    margins = (true - others.amax(1, keepdim=True)).clamp_min(0)
    return float(margins.mean()) / (2**0.5 * bound) if bound > 0 else 0.0


def _draw_layers(axes: "Axes", own: Mapping[str, Sequence[Row]]) -> None:
    """Mean norm by layer, from the least to the greatest of a group's networks."""
    names = list(own)
    labels = max((rows[0]["layers"] for rows in own.values()), key=len)
    for name, rows in own.items():
        norms = torch.tensor([row["norms"] for row in rows])
        places, hue = range(norms.shape[1]), colour(name, names)
        axes.fill_between(places, norms.amin(0), norms.amax(0), color=hue, alpha=0.2, linewidth=0)
        axes.plot(places, norms.mean(0), color=hue, marker="o", markersize=4)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize="small")
    axes.set_yscale("log")
    for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_formatter("{x:g}")
    axes.set_title("spectral norms of layers: mean of networks, and their range", fontsize="small")
    axes.set_ylabel("spectral norm")
    axes.grid(alpha=0.3)


def _draw_levels(axes: "Axes", own: Mapping[str, Sequence[Row]]) -> None:
    """What each network of a group can do and does; the groups' names in their colours."""
    names, called = list(own), tails([*own])
    for index, (name, rows) in enumerate(own.items()):
        hue, shift = colour(name, names), 0.7 * ((index + 0.5) / len(names) - 0.5)
        for place, level in enumerate(LEVELS):
            values = [row[level] for row in rows if row[level] is not None]
            axes.scatter([place + shift] * len(values), values, color=hue, s=18, alpha=0.8)
        # From bounds to what is seen points fall: the upper right is free.
        axes.text(
            0.97,
            0.95 - 0.07 * index,
            called[name],
            color=for_text(hue),
            ha="right",
            va="top",
            transform=axes.transAxes,
        )
    axes.set_xticks(range(len(LEVELS)), list(LEVELS.values()), fontsize="small")
    axes.set_yscale("log")
    axes.set_title(
        "whole networks, a point each: what they can do and what they do", fontsize="small"
    )
    axes.set_ylabel("change of logits per change of image (L2)")
    axes.grid(alpha=0.3)
