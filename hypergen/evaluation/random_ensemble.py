"""A defence that draws another network for every query, and the attack that expects it.

What is attacked is the expectation over the draw ("EOT", Athalye et al. 2018), which for networks
that can be listed is no estimate: the mean soft-max of them all has exactly its gradient. Nor is
the verdict a matter of luck: an image counts by the share of networks that get its worst point
right.
"""

import torch
from torch import Tensor

import attacks
from hypergen.measures.attacked import attacked_images, predictions
from targets import Ensemble, Population

LOSSES = "ce", "margin", "targeted", "random"


def shares_correct(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """[N], the share of networks that classify each of images [N,C,H,W] correctly."""
    return (predictions(population, images) == labels).double().mean(0)


def random_ensemble(
    population: Population,
    images: Tensor,
    labels: Tensor,
    threat: attacks.Threat,
    steps: int = 50,
    seed: int = 0,
) -> float:
    """Expected robustness in [0,1] where any network of P may answer each query.

    Images [N,C,H,W] in [0,1], labels [N]. The attacker knows all networks but not the draw. PGD on
    the expected answer by four losses; for every image the point counts that fools most networks.
    """
    worst = shares_correct(population, images, labels)
    for loss in LOSSES:
        attack = attacks.PGD(threat, steps=steps, loss=loss)
        points = attacked_images(Ensemble(population), images, labels, attack, seed)[0]
        worst = torch.minimum(worst, shares_correct(population, points, labels))
    return float(worst.mean())
