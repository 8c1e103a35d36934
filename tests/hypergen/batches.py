"""Accuracy and robustness on images attacked by any one attack."""

from torch import Tensor

import attacks
from hypergen.measures import Accuracy, Batch, Robustness, Stage, prepare_batch
from hypergen.runtime.precision import Precision
from targets import Population

ACCURACY, ROBUSTNESS = Accuracy(), Robustness(attacks.Threat("linf", 0.1))
PAIR = ACCURACY, ROBUSTNESS


def attacked_batch(
    population: Population,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack,
    seed: int,
    precision: Precision = "float32",
) -> Batch:
    """The images [B,C,H,W] as the pair needs them, attacked so against each network."""
    stage = Stage(lambda threat: attack, seed, precision)
    return prepare_batch(PAIR, population, images, labels, stage)
