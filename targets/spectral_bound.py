"""Keeps linear layers and convolutions from lengthening any vector by more than a bound.

Sources: Cisse et al. 2017, "Parseval networks: improving robustness to adversarial examples";
Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz continuity", whose
projection it is: weights are divided by max(1, norm / bound).
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from targets.copies import without_numbers
from targets.errors import TargetError
from targets.layout import WeightLayout
from targets.rounding import LAYERS
from targets.spectral import spectral_norms

TOLERANCE = 1e-5
"""Of norms while networks are trained: they are found to better than a thousandth."""
DENSE_LIMIT = 512
"""Shorter side of the largest matrix whose singular values are faster found all at once."""


@dataclass(frozen=True)
class _LayerMap:
    """A layer, without numbers, as a linear map of inputs of one shape."""

    layer: nn.Module
    shape: tuple[int, ...]

    def norms(self, weights: Tensor) -> Tensor:
        """[P], with weights [P,...]."""
        if weights.ndim == 3 and min(weights.shape[1:]) <= DENSE_LIMIT:
            return torch.linalg.matrix_norm(weights, 2)
        rng = torch.Generator().manual_seed(0)  # always the same: a network is judged by itself
        start = torch.randn(self.shape, generator=rng).to(weights)
        answer = vmap(self._answer)

        def linear(inputs: Tensor) -> Tensor:
            return answer(weights, inputs)

        return spectral_norms(linear, start.expand(len(weights), *self.shape), TOLERANCE)

    def _answer(self, weight: Tensor, values: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return F.linear(values, weight)
        return self.layer._conv_forward(values[None], weight, None)  # pyright: ignore


class SpectralBound:
    """Divides the weights of a target's layers so that no spectral norm is above a bound.

    The norm is that of the layer as an operator on the input that it has in this target, with its
    stride, padding, dilation and groups. Where a layer is used on several, the largest counts.

    Args:
        module: the target.
        input_shape: (C, H, W) of its images.
        bound: above 0.

    Raises:
        TargetError: no layers with weights of their own, or batch norm, which multiplies what
            layers answer by factors that nothing bounds.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], bound: float):
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            raise TargetError(
                "batch norm multiplies what a layer answers: spectral norms can be bounded in "
                "targets without it alone, such as vgg-none"
            )
        self.bound, self.layout = bound, WeightLayout.of(module)
        self._maps = _layer_maps(module, input_shape)

    def norms(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[P] by the name of a layer's weights, differentiable in them.

        tensors: those weights, [P,...] each, and any others.
        """
        return {
            name: torch.stack([each.norms(tensors[name]) for each in maps]).amax(0)
            for name, maps in self._maps.items()
        }

    def divided(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors [P,...] of P networks, those of layers divided by max(1, norm / bound)."""
        bounded = dict(tensors)
        for name, norms in self.norms(tensors).items():
            factors = (norms / self.bound).clamp_min(1)
            bounded[name] = tensors[name] / factors.view(-1, *[1] * (tensors[name].ndim - 1))
        return bounded

    def of_vectors(self, theta: Tensor) -> Tensor:
        """The same for weights [P,D]."""
        return self.layout.flatten(self.divided(self.layout.unflatten(theta)))

    @torch.no_grad()
    def project(self, module: nn.Module) -> None:
        """The same for a network, in place."""
        weights = dict(module.named_parameters())
        bounded = self.divided({name: weights[name][None] for name in self._maps})
        for name in self._maps:
            weights[name].copy_(bounded[name][0])


@torch.no_grad()
def _layer_maps(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, list[_LayerMap]]:
    """By the name of weights, the layers that they are of with their inputs, found by a trial."""
    module = copy.deepcopy(module).eval()
    names = {id(tensor): name for name, tensor in module.named_parameters()}
    layers = [part for part in module.modules() if isinstance(part, LAYERS)]
    if not layers or any(id(layer.weight) not in names for layer in layers):
        raise TargetError("expected linear layers or convolutions with weights of their own")
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: nn.Module, args: tuple[Tensor]) -> None:
        seen.append((layer, tuple(args[0].shape[1:])))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    module(torch.zeros(1, *input_shape).to(next(module.parameters())))
    for hook in hooks:
        hook.remove()
    found: dict[str, list[_LayerMap]] = defaultdict(list)
    for layer, shape in seen:
        found[names[id(layer.weight)]].append(_LayerMap(without_numbers(layer), shape))
    return dict(found)
