"""Accuracy once the smallest weights are gone (magnitude pruning, Han et al. 2015).

The smallest of the whole network, not of each layer, which keeps more accuracy (Blalock et al.
2020, "What is the state of neural network pruning?").
"""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.base import Stage, WeightMeasure
from hypergen.measures.options import number
from targets import Population
from targets.rounding import layer_weights


@MEASURES.register("pruned")
class Pruned(WeightMeasure):
    """Accuracy with the smallest weights set to 0; option share (0.8 of them).

    The share is of all weights of linear layers and convolutions together; biases and
    normalisation layers are kept.

    Args:
        share: of weights that are set to 0, in [0,1].
    """

    name = "pruned"

    def __init__(self, share: float = 0.8):
        self.share = number("share", share, 0, 1)

    def change_weights(self, population: Population, stage: Stage) -> Tensor:
        sizes = torch.full_like(population.theta, torch.inf)
        slots = layer_weights(population)
        for slot in slots:
            sizes[:, slot.start : slot.stop] = population.theta[:, slot.start : slot.stop].abs()
        count = round(self.share * sum(slot.stop - slot.start for slot in slots))
        smallest = sizes.topk(count, largest=False).indices
        return population.theta.scatter(1, smallest, 0.0)
