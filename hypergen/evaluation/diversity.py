"""How different networks of a population are: in their classes, their errors and their weights."""

from itertools import combinations

import torch
from torch import Tensor

from hypergen.measures.attacked import disagreement, predictions
from targets import Population, TargetError, WeightLayout


def pairwise_differences(
    population: Population, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Disagreement and error overlap of the networks on images [N,C,H,W] of labels [N]."""
    classes = predictions(population, images)
    return {
        "disagreement": disagreement(classes),
        "error_overlap": error_overlap(classes, labels),
    }


def error_overlap(classes: Tensor, labels: Tensor) -> float:
    """Images that both of two networks get wrong over those that either does, mean over pairs.

    classes: [P,N], what each network takes the images for; labels: [N].
    1: they fail on the same images (or never); 0: on different ones.
    """
    wrong = (classes != labels).double()
    both = wrong @ wrong.T
    either = wrong.sum(1)[:, None] + wrong.sum(1)[None] - both
    return float(off_diagonal(torch.where(either > 0, both / either.clamp_min(1), 1.0)).mean())


def weight_distance(population: Population) -> tuple[float, float]:
    """How far apart two weight vectors lie, as they are and with hidden units matched.

    Relative to their length, layers weighed by fan-in; mean over pairs. A network stays the same
    when its hidden units change places, so only what matching leaves is a difference. 2 ** 0.5 is
    what independent random vectors have. `TargetError` for networks that are no plain chain of
    layers.
    """
    before, after = [], []
    for one, other in combinations(population.theta, 2):
        before.append(relative_distance(one, other, population.layout))
        matched = match_units(one, other, population.layout)
        after.append(relative_distance(one, matched, population.layout))
    return sum(before) / len(before), sum(after) / len(after)


def relative_distance(one: Tensor, other: Tensor, layout: WeightLayout) -> float:
    """How far apart two weight vectors [D] lie, relative to their length, weighed by fan-in."""
    one, other = (theta / layout.scales().to(theta) for theta in (one, other))
    length = ((one.square().sum() + other.square().sum()) / 2).sqrt()
    return float((one - other).norm() / length) if length > 0 else 0.0


def match_units(goal: Tensor, theta: Tensor, layout: WeightLayout) -> Tensor:
    """The same network as `theta` [D], its hidden units reordered to lie as near `goal` as can be.

    `TargetError` for networks that are no plain chain of layers.
    """
    scales = layout.scales().to(theta)
    matched = _matched((goal / scales).cpu(), (theta / scales).cpu(), _chain(layout))
    return matched.to(theta) * scales


def _chain(layout: WeightLayout) -> list[tuple[slice, slice | None, tuple[int, ...]]]:
    """Weights, bias and the shape [out, in, positions] of every layer, first to last."""
    layers: list[tuple[slice, slice | None, tuple[int, ...]]] = []
    for slot in layout.slots:
        where = slice(slot.start, slot.stop)
        if len(slot.shape) >= 2:
            units = layers[-1][2][0] if layers else slot.shape[1]
            if slot.shape[1] % units:
                raise TargetError(f"{slot.name!r} does not follow the layer before it")
            layers.append((where, None, (slot.shape[0], units, -1)))
        elif layers and layers[-1][1] is None and slot.shape == layers[-1][2][:1]:
            layers[-1] = (layers[-1][0], where, layers[-1][2])
        else:
            raise TargetError(f"{slot.name!r} belongs to no layer of a chain")
    return layers


def _matched(
    goal: Tensor, theta: Tensor, layers: list[tuple[slice, slice | None, tuple[int, ...]]]
) -> Tensor:
    """`theta` [D], the hidden units of each layer reordered to lie as near `goal` as they can.

    Layer by layer, until nothing moves ("weight matching", Ainsworth et al. 2023).
    """
    from scipy.optimize import linear_sum_assignment  # here, for it is slow to load

    theta, moved = theta.clone(), True
    while moved:
        moved = False
        for (weights, bias, shape), (outgoing, _, beyond) in zip(layers, layers[1:], strict=False):
            alike = goal[weights].view(shape[0], -1) @ theta[weights].view(shape[0], -1).T
            if bias is not None:
                alike += goal[bias][:, None] * theta[bias][None]
            alike += torch.einsum(
                "oik,ojk->ij", goal[outgoing].view(beyond), theta[outgoing].view(beyond)
            )
            order = torch.from_numpy(linear_sum_assignment(alike.numpy(), maximize=True)[1])
            gained = alike[torch.arange(len(order)), order].sum() - alike.trace()
            if gained > 1e-4 * alike.abs().max():  # else rounding could move units for ever
                moved = True
                theta[weights] = theta[weights].view(shape[0], -1)[order].flatten()
                if bias is not None:
                    theta[bias] = theta[bias][order]
                theta[outgoing] = theta[outgoing].view(beyond)[:, order].flatten()
    return theta


def off_diagonal(matrix: Tensor) -> Tensor:
    """[P,P] without its diagonal, row by row, [P,P-1]."""
    count = len(matrix)
    return matrix[~torch.eye(count, dtype=torch.bool, device=matrix.device)].view(count, count - 1)
