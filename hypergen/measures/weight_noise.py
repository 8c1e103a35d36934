"""Accuracy after noise on the weights, as of analog hardware or a careless copy.

Networks trained with it get wider minima and bear faults (Murray, Edwards 1994, "Enhanced MLP
performance and fault tolerance resulting from synaptic weight noise during training").
"""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.base import Stage, WeightMeasure
from hypergen.measures.options import number
from targets import Population


@MEASURES.register("weight-noise")
class WeightNoise(WeightMeasure):
    """Accuracy after noise on all weights; option std (0.1 of a tensor's own spread).

    Gaussian, the same draw for every network.

    Args:
        std: relative to the standard deviation of the named tensor that a weight belongs to.
    """

    name = "weight-noise"

    def __init__(self, std: float = 0.1):
        self.std = number("std", std, 0)

    def change_weights(self, population: Population, stage: Stage) -> Tensor:
        theta, slots = population.theta, population.layout.slots
        rng = torch.Generator().manual_seed(stage.seed)
        noise = torch.randn(theta.shape[1], generator=rng).to(theta)
        spreads = [theta[:, slot.start : slot.stop].std(1, correction=0) for slot in slots]
        sizes = torch.tensor([slot.stop - slot.start for slot in slots], device=theta.device)
        spread = torch.stack(spreads, 1).repeat_interleave(sizes, 1, output_size=theta.shape[1])
        return theta + self.std * spread * noise
