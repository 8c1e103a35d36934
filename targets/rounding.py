"""Weights of linear layers and convolutions as integers of few bits, times a scale.

Symmetric rounding to nearest, as surveyed by Nagel et al. 2021, "A white paper on neural network
quantization". All else, biases and normalisation layers among it, stays as it is.
"""

from torch import Tensor, nn

from targets.errors import TargetError
from targets.layout import Slot, WeightLayout
from targets.population import Population

LAYERS = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d
"""Whose weights are rounded."""
LEAST_SCALE = 1e-30
"""Of weights that are all 0."""
_LAYER_WEIGHTS: dict[str, tuple[Slot, ...]] = {}


def quantized(weight: Tensor, bits: int, dims: int) -> tuple[Tensor, Tensor]:
    """Whole numbers of `weight`'s shape and the scales that they are to be multiplied by.

    bits: of each number, its sign included, from 2: with 8 they lie in [-127, 127].
    dims: how many leading dimensions have a scale for each index: 1 of a layer's [O,...] is one for
        each output channel, of a population's [P,O,...] one for each network.
    """
    largest = weight.flatten(dims).abs().amax(dims).clamp(min=LEAST_SCALE)
    scale = largest / (2 ** (bits - 1) - 1)
    scale = scale.view(*scale.shape, *[1] * (weight.ndim - dims))
    return (weight / scale).round(), scale


def layer_weights(population: Population) -> tuple[Slot, ...]:
    """Where the weights of linear layers and convolutions lie in `theta`, shared ones once.

    `TargetError` for a layer that computes its weights of other numbers, as by weight
    normalisation, and for a target without such layers. A training asks at every step, of
    populations just made, so each architecture is looked through once.
    """
    key = population.architecture
    if key not in _LAYER_WEIGHTS:
        _LAYER_WEIGHTS[key] = _layer_weights(population[0], population.layout)
    return _LAYER_WEIGHTS[key]


def _layer_weights(module: nn.Module, layout: WeightLayout) -> tuple[Slot, ...]:
    names = {id(tensor): name for name, tensor in module.named_parameters()}
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    wanted = {names.get(id(layer.weight)) for layer in layers}
    if not wanted or None in wanted:
        raise TargetError("expected linear layers or convolutions with weights of their own")
    return tuple(slot for slot in layout.slots if slot.name in wanted)
