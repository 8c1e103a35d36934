"""Piecewise-linear networks around an image: f(x) = W_x x + b_x."""

import statistics
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hypergen.analysis.base import Analysis, Context, Group, Row
from hypergen.analysis.jacobian import in_double, jacobians
from hypergen.analysis.layer_matrices import layer_matrices
from hypergen.analysis.piecewise_linear import graph_and_tensors
from hypergen.catalog import ANALYSES
from hypergen.errors import InputError
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.runtime.progress import Progress
from targets.graph import Graph
from targets.linear_pieces import frozen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES_AT_ONCE = 25
SHOWN_CLASSES, SHOWN_SIZE = 10, 32
"""Gradient images in the picture, and the most pixels of their sides."""
TINY = 1e-300
"""In the place of lengths of 0 that are divided by."""


@ANALYSES.register("linearisation")
class Linearisation(Analysis):
    """What a network computes around an image, f(x) = W_x x + b_x, and its gradient images.

    The network must be continuous and piecewise linear: then this holds exactly, with W_x the
    Jacobian and b_x what the image's activation pattern makes of a black image (Bibi and Alfadly,
    "Understanding DNNs").
    """

    title = "linearisation"
    figures = {
        "error": "greatest |f(x) - (W_x x + b_x)| / |f(x)|, in 64-bit numbers",
        "product_error": "greatest difference of W^L V^(L-1) ... V^1 W^1 from the Jacobian, of its "
        "largest number; one image of the first network, where layers are a chain",
        "gradient_norm": "length (L2) of the true logit's gradient, mean over images, 1 / L2",
        "bias_share": "|b_x| / (|b_x| + |W_x x|) of the true logit, mean over images, in [0,1]",
        "alignment": "cosine of true logits' gradients at two images of a class, mean, in [-1,1]",
    }
    cost = 15.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        images, labels = context.images()
        images, population = images.double(), in_double(group.population)
        (graph, every), found = graph_and_tensors(population, images), []
        progress.start(len(population))
        for number, tensors in enumerate(every):
            network = population[number : number + 1]
            shift = [
                frozen(graph, tensors, batch, torch.zeros_like(batch)[None])[1][0]
                for batch in images.split(IMAGES_AT_ONCE)
            ]
            parts = [jacobians(network, batch[None]) for batch in images.split(IMAGES_AT_ONCE)]
            logits, slopes = (torch.cat(each, dim=1)[0] for each in zip(*parts, strict=True))
            row = _figures(images, labels, logits, slopes, torch.cat(shift))
            if number == 0:
                row["product_error"] = _product_error(graph, tensors, images[0], slopes[0])
                row |= _gradient_images(slopes, labels)
            found.append(row)
            progress.advance()
        return found

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        firsts = {row["group"]: row for row in rows if row["network"] == 0}
        classes = next(iter(firsts.values()))["classes"]
        figure = panels(
            len(groups),
            len(classes),
            "Which pixels raise the true logit (red) and lower it (blue): gradients, averaged\n"
            "over test images of a class, of the first network of each group; colours end at ±\n"
            f"the number on the left; {context.caption(groups)}",
            size=(1.0, 1.1),
        )
        grid = figure.subplots(len(groups), len(classes), squeeze=False)
        called = tails([group.name for group in groups])
        for axes_row, group in zip(grid, groups, strict=True):
            row = firsts[group.name]
            shown = dict(zip(row["classes"], row["gradients"], strict=True))
            values = [abs(each) for lines in shown.values() for line in lines for each in line]
            largest = statistics.quantiles(values, n=200)[-1]  # the few above outshine the rest
            largest = largest or 1.0  # of a flat network, whose picture is white
            for axes, label in zip(axes_row, classes, strict=True):
                axes.set_xticks([])
                axes.set_yticks([])
                axes.imshow(shown[label], cmap="RdBu_r", vmin=-largest, vmax=largest)
            axes_row[0].set_ylabel(f"{called[group.name]}\n±{largest:.2g}", fontsize="small")
        for axes, label in zip(grid[0], classes, strict=True):
            axes.set_title(context.dataset.info.class_names[label], fontsize="small")
        return figure


def _figures(images: Tensor, labels: Tensor, logits: Tensor, slopes: Tensor, shift: Tensor) -> Row:
    """Images [N,C,H,W], logits [N,K], their derivatives [N,K,C,H,W] and b_x [N,K] -> a row."""
    linear = (slopes * images[:, None]).flatten(2).sum(2)
    errors = (linear + shift - logits).norm(dim=1) / logits.norm(dim=1).clamp_min(TINY)
    own = torch.arange(len(labels)), labels
    gradients = slopes[own].flatten(1)
    part = shift[own].abs() / (shift[own].abs() + linear[own].abs()).clamp_min(TINY)
    return {
        "error": float(errors.max()),
        "gradient_norm": float(gradients.norm(dim=1).mean()),
        "bias_share": float(part.mean()),
        "alignment": _alignment(gradients, labels),
    }


def _alignment(gradients: Tensor, labels: Tensor) -> float | None:
    """The mean cosine of two gradients [N,D] of one class; None where no class has two images."""
    units, found = F.normalize(gradients, dim=1), []
    points = gradients.norm(dim=1) > 0  # where the network is flat there is no direction
    for label in labels.unique():
        own = units[(labels == label) & points]
        if len(own) > 1:  # the squared length of their sum has all pairs, and each with itself
            found.append((own.sum(0).square().sum() - len(own)) / (len(own) * (len(own) - 1)))
    return float(torch.stack(found).mean()) if found else None


def _product_error(
    graph: Graph, tensors: Mapping[str, Tensor], image: Tensor, slopes: Tensor
) -> float | None:
    """How far the product of the layers is from the Jacobian [K,C,H,W]; None where it has none."""
    try:
        matrices = [matrix for _, matrix in layer_matrices(graph, tensors, image)]
    except InputError:
        return None
    product = reduce(torch.matmul, reversed(matrices))
    jacobian = slopes.flatten(1)
    return float((product - jacobian).abs().max() / jacobian.abs().max().clamp_min(TINY))


def _gradient_images(slopes: Tensor, labels: Tensor) -> dict[str, Any]:
    """Of each class the mean gradient of its own logit, [H,W] summed over colours, as lists."""
    classes = labels.unique().tolist()[:SHOWN_CLASSES]
    pictures = []
    for label in classes:
        mean = slopes[labels == label, label].mean(0).sum(0)
        height, width = (min(SHOWN_SIZE, side) for side in mean.shape)
        small = F.adaptive_avg_pool2d(mean[None], (height, width))[0]
        pictures.append([[float(f"{value:.3g}") for value in line] for line in small.tolist()])
    return {"classes": classes, "gradients": pictures}
