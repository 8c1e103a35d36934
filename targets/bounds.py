"""Bounds of what a population answers while every pixel moves: certificates, for any attack.

`ibp` is interval bound propagation (targets/intervals.py), which costs about three evaluations.
`crown-ibp` is tighter: the better of that and of linear bounds that lead back to the images
(targets/relaxation.py). It costs several evaluations for each class, some seventy for ten classes.

Numbers are rounded as in any evaluation, and so are the bounds, by about a millionth.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from targets.errors import TargetError
from targets.graph import Graph
from targets.intervals import Interval, Propagation
from targets.population import Population
from targets.relaxation import upper_bounds

METHODS = "ibp", "crown-ibp"


def logit_bounds(
    population: Population, images: Tensor, radius: Tensor | float, method: str = "ibp"
) -> tuple[Tensor, Tensor]:
    """The least and the greatest that logits can be, [P,B,K] each, differentiable in the weights.

    Args:
        population: P networks; where they normalise by the batch, the images as they are decide its
            statistics.
        images: [B,C,H,W] in [0,1].
        radius: how far every pixel moves inside [0,1] (linf), at least 0; one for all networks or
            [P].
        method: "ibp" or "crown-ibp".

    Raises:
        TargetError: an activation or a layer that cannot be bounded, by its name; another method.
    """

    def forms(like: Tensor) -> Tensor:
        one_each = _one_each(like)
        return torch.cat([one_each, -one_each])

    bounds = _bounds(population, images, radius, method, forms)
    upper, negated = bounds.chunk(2, dim=-1)
    return -negated, upper


def margin_bounds(
    population: Population,
    images: Tensor,
    labels: Tensor,
    radius: Tensor | float,
    method: str = "ibp",
) -> Tensor:
    """The most by which each class can exceed the true one, [P,B,K], differentiable in the weights.

    That of the label is 0. Where all others are below 0 nothing inside the radius changes the
    answer. Differences are taken in the last layer (Gowal et al. 2018), so they are tighter than
    those of `logit_bounds`. labels: [B]; all else as there.
    """

    def forms(like: Tensor) -> Tensor:
        return _one_each(like) - F.one_hot(labels, like.shape[-1]).to(like.dtype)

    bounds = _bounds(population, images, radius, method, forms)
    return bounds.masked_fill(F.one_hot(labels, bounds.shape[-1]) > 0, 0.0)


def _one_each(like: Tensor) -> Tensor:
    """The form of each of the logits [B,K] alone, [K,B,K]."""
    count = like.shape[-1]
    return torch.eye(count, dtype=like.dtype, device=like.device)[:, None].expand(-1, len(like), -1)


def _bounds(
    population: Population,
    images: Tensor,
    radius: Tensor | float,
    method: str,
    forms: Callable[[Tensor], Tensor],
) -> Tensor:
    """[P,B,S], the most that S linear forms can be, which `forms` gives for logits [B,K]."""
    if method not in METHODS:
        raise TargetError(f"unknown method {method!r} of bounds; known: {', '.join(METHODS)}")
    graph = Graph.of(population)
    tensors = population.layout.unflatten(population.theta) | population.buffers
    radii = torch.as_tensor(radius, dtype=images.dtype, device=images.device)
    radii = radii.expand(len(population))
    run = partial(_of_network, graph, images, forms, method)
    if not _one_by_one(images):
        return vmap(run)(tensors, radii)
    each = [{name: tensor[i] for name, tensor in tensors.items()} for i in range(len(radii))]
    with graph.fast_context(images):
        return torch.stack([run(own, reach) for own, reach in zip(each, radii, strict=True)])


def _one_by_one(images: Tensor) -> bool:
    """Whether networks are bounded in turn, which on a CPU is faster."""
    return images.device.type == "cpu"


def _of_network(
    graph: Graph,
    images: Tensor,
    forms: Callable[[Tensor], Tensor],
    method: str,
    tensors: Mapping[str, Tensor],
    radius: Tensor,
) -> Tensor:
    """[B,S] for one network."""
    around = Interval((images - radius).clamp_min(0), (images + radius).clamp_max(1))
    propagation = Propagation(graph, tensors, images, around)
    asked = forms(propagation.logits.lower)
    bounds = upper_bounds(propagation, asked, relaxed=False)
    if method == "crown-ibp":
        bounds = torch.minimum(bounds, upper_bounds(propagation, asked, relaxed=True))
    return bounds.T
