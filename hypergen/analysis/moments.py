"""How much Gaussian noise on images moves what networks answer: by formula, and sampled."""

from collections.abc import Sequence
from math import pi, prod, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.analysis.jacobian import in_double
from hypergen.analysis.moment_propagation import propagate
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.report.palette import colour, for_text
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import Progress
from targets import Population
from targets.graph import Graph
from targets.piecewise_linear import tensors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = 20
"""Images with noise, at most."""
SAMPLES = 100
"""Draws of noise on each image."""
LEAST_STD = 1e-12
"""In the place of the standard deviation of a lead that noise does not move."""


@ANALYSES.register("moments")
class NoiseMoments(Analysis):
    """How Gaussian noise on images moves logits and changes classes: by formula and by sampling."""

    title = "Gaussian noise"
    figures = {
        "predicted": "standard deviation of a logit by moment propagation, mean over images",
        "sampled": f"the same of {SAMPLES} draws an image",
        "ratio": "predicted by sampled",
        "lead predicted": "lead over the likeliest other class, in standard deviations of the "
        "lead; median of images",
        "lead sampled": f"the same of {SAMPLES} draws an image",
        "change predicted": "probability that this class overtakes, if leads are Gaussian",
        "change sampled": "share of draws in which the class changes",
    }
    cost = 4.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        images, std = context.images(IMAGES)[0], noise_std(context)
        graph = Graph.of(group.population)
        progress.start(len(group.population))
        rows = []
        for _, network in group.population.chunks(1):
            rows.append(_row(graph, network, images, std, context.rng()))
            progress.advance()
        return rows

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """Predicted against sampled, a point for each network and image."""
        names = [group.name for group in groups]
        std = noise_std(context)
        title = (
            f"What moment propagation says of Gaussian noise of standard deviation {std:.3g}, and "
            f"what sampling says\na point is one image under one network; on the line both agree\n"
            f"{context.caption(groups)}"
        )
        figure = panels(1, 2, title, (5.0, 4.4))
        left, right = figure.subplots(1, 2)
        _draw_points(left, names, rows, "std by image", "standard deviation of a logit")
        _draw_points(right, names, rows, "lead by image", "least lead / its standard deviation")
        called = tails(names)
        for place, name in enumerate(names):
            text = {
                "transform": left.transAxes,
                "va": "top",
                "color": for_text(colour(name, names)),
            }
            left.text(0.03, 0.97 - 0.06 * place, called[name], **text)
        return figure


def noise_std(context: Context) -> float:
    """The standard deviation of noise as large as the threat's epsilon.

    In linf that is epsilon itself; in l1 the expected norm of noise is epsilon, in l2 the root of
    its expected square. `NotApplicable` for an epsilon of 0.
    """
    threat = context.threat
    if not threat.epsilon:
        raise NotApplicable("with an epsilon of 0 there is no noise")
    size = prod(context.dataset.info.input_shape)
    shares = {"linf": 1.0, "l2": 1 / sqrt(size), "l1": sqrt(pi / 2) / size}
    return threat.epsilon * shares[threat.norm]


def least_lead(mean: Tensor, covariance: Tensor, classes: Tensor) -> Tensor:
    """[B], the least mean lead of `classes` [B] over another, in standard deviations of that lead.

    Of Gaussian logits of mean [B,K] and covariance [B,K,K] this other class overtakes with the
    probability of being so far below the mean; that the class changes at all is no less likely.
    """
    own = classes[:, None]
    variance = covariance.diagonal(dim1=1, dim2=2)
    shared = covariance.gather(1, own[:, None].expand(-1, 1, mean.shape[1]))[:, 0]
    spread = (variance + variance.gather(1, own) - 2 * shared).clamp_min(0).sqrt()
    leads = (mean.gather(1, own) - mean) / spread.clamp_min(LEAST_STD)
    return leads.scatter(1, own, torch.inf).amin(1)


@full_precision()
@torch.no_grad()
def _row(
    graph: Graph, network: Population, images: Tensor, std: float, rng: torch.Generator
) -> Row:
    """The figures of one network (P = 1)."""
    (tensors,) = tensors_of(in_double(network))
    mean, covariance = propagate(graph, tensors, images.double(), std)
    classes = network(images[None])[0].argmax(-1)
    drawn = _sampled(network, images, std, rng)  # [B,S,K]
    covariances = torch.stack([logits.T.cov() for logits in drawn])
    changed = (drawn.argmax(-1) != classes[:, None]).double().mean(1)
    predicted, sampled = _mean_std(covariance), _mean_std(covariances)
    lead = least_lead(mean, covariance, classes)
    sampled_lead = least_lead(drawn.mean(1), covariances, classes)
    moved = float(sampled.mean())
    return {
        "predicted": float(predicted.mean()),
        "sampled": moved,
        "ratio": float(predicted.mean()) / moved if moved else None,
        "lead predicted": float(lead.quantile(0.5)),
        "lead sampled": float(sampled_lead.quantile(0.5)),
        "change predicted": float(torch.special.ndtr(-lead).mean()),
        "change sampled": float(changed.mean()),
        "std by image": [predicted.tolist(), sampled.tolist()],
        "lead by image": [lead.tolist(), sampled_lead.tolist()],
    }


def _sampled(network: Population, images: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """Logits [B,S,K] of each image with S draws of noise."""
    drawn = []
    for image in images:
        noise = torch.randn(SAMPLES, *image.shape, generator=rng).to(image)
        drawn.append(network((image + std * noise)[None])[0].double())
    return torch.stack(drawn)


def _mean_std(covariance: Tensor) -> Tensor:
    """[B], the mean of the standard deviations of logits of covariance [B,K,K]."""
    return covariance.diagonal(dim1=1, dim2=2).sqrt().mean(1)


def _draw_points(
    axes: "Axes", names: Sequence[str], rows: Sequence[Row], figure: str, words: str
) -> None:
    """Predicted against sampled of one figure, and the line where they agree."""
    for row in rows:
        predicted, sampled = row[figure]
        axes.scatter(sampled, predicted, s=10, alpha=0.6, color=colour(row["group"], names))
    every = [value for row in rows for part in row[figure] for value in part]
    ends = [min(every), max(every)]
    axes.plot(ends, ends, color="black", linewidth=1, zorder=0)
    axes.set_xlabel(f"{words}, sampled")
    axes.set_ylabel(f"{words}, predicted")
    axes.grid(alpha=0.3)
