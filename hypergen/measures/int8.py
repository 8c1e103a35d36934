"""Accuracy after rounding weights to few bits, as when a network is exported with int8.

Gradients pass the rounding "straight through" (Jacob et al. 2018, "Quantization and training of
neural networks for efficient integer-arithmetic-only inference").
"""

from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.errors import InputError
from hypergen.measures.base import Stage, WeightMeasure
from hypergen.measures.options import whole
from targets import Population
from targets.rounding import layer_weights, quantized

SCALES = {"tensor": 1, "channel": 2}
"""How many dimensions of [P,O,...] have scales of their own."""


@MEASURES.register("int8")
class Int8(WeightMeasure):
    """Accuracy once weights are integers; options bits (8), per (channel, or tensor).

    Those of linear layers and convolutions; biases and all else stay.

    Args:
        bits: of each weight, 2 to 32.
        per: "channel" has one scale for each output channel, as `hypergen export`; "tensor" one for
            each layer.
    """

    name = "int8"

    def __init__(self, bits: int = 8, per: str = "channel"):
        self.bits = whole("bits", bits, 2, 32)
        if per not in SCALES:
            raise InputError(f"`per` must be channel or tensor, got {per}")
        self.dims = SCALES[per]

    def change_weights(self, population: Population, stage: Stage) -> Tensor:
        theta = population.theta.clone()
        for slot in layer_weights(population):
            weight = theta[:, slot.start : slot.stop].unflatten(1, slot.shape)
            integers, scale = quantized(weight, self.bits, self.dims)
            weight.copy_(integers * scale)
        return theta
