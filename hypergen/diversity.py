"""How different networks of a population really are: in what they say, get wrong and fall for."""

import torch
from torch import Tensor
from torch.nn import functional as F

import attacks
from hypergen.measure import attacked_batch
from targets import Population, concurrently


def disagreement(population: Population, images: Tensor) -> float:
    """Share of images [N,C,H,W] that two networks put into different classes, mean over pairs."""
    classes = _classes(population, images)
    count = len(classes)
    if count < 2:
        return 0.0
    votes = F.one_hot(classes).sum(0)  # [N,K]
    agreeing = (votes * (votes - 1)).sum(-1).double()
    return float(1 - agreeing.mean() / (count * (count - 1)))


def error_overlap(population: Population, images: Tensor, labels: Tensor) -> float:
    """Images that both of two networks get wrong over those that either does, mean over pairs.

    1: they fail on the same images (or never); 0: on different ones.
    """
    wrong = (_classes(population, images) != labels).double()
    both = wrong @ wrong.T
    either = wrong.sum(1)[:, None] + wrong.sum(1)[None] - both
    return _mean_off_diagonal(torch.where(either > 0, both / either.clamp_min(1), 1.0))


def transfer(
    population: Population, images: Tensor, labels: Tensor, attack: attacks.Attack, seed: int
) -> tuple[Tensor, float]:
    """[P,P], share of images attacked against network i that network j gets right; and a share.

    The share says how much of what an attack does to the network it was made against it does to
    the others too, mean over pairs: 1 for equal networks, 0 where nothing carries over.
    """
    batch = attacked_batch(population, images, labels, attack, seed)
    right = torch.stack([_classes(population, x) == labels for x in batch.attacked])
    matrix = right.double().mean(-1)
    clean = (_classes(population, images) == labels).double().mean(-1)
    done = clean - matrix.diagonal()
    carried = (clean[None] - matrix) / done[None].clamp_min(1e-9)
    return matrix, _mean_off_diagonal(carried)


def _mean_off_diagonal(matrix: Tensor) -> float:
    """Of a [P,P], P at least 2."""
    count = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1)))


@torch.no_grad()
def _classes(population: Population, images: Tensor) -> Tensor:
    """[P,N], the class that every network puts images [N,C,H,W] into."""
    pieces = [piece for _, piece in population.pieces(1)]
    return torch.cat(
        list(concurrently(lambda piece: piece(images[None]).argmax(-1), pieces)), dim=0
    )
