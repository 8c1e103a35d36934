"""A piecewise-linear network as a difference of two convex piecewise-linear functions.

Source: Bibi and Alfadly, "Understanding DNNs". If p and q are convex then so are their sums with
weights of at least 0, and max(p, q). A layer of weights W = W+ - W- makes of p - q the difference
of W+ p + W- q and W- p + W+ q, and relu(p - q) = max(p, q) - q.
"""

import torch
from torch import Tensor, nn

from hypergen.errors import InputError


@torch.no_grad()
def convex_parts(module: nn.Sequential, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Two functions, convex in the inputs [B,...], whose difference is the network: [B,K] each.

    module: of flattening, linear layers and ReLUs alone.

    Raises:
        InputError: it has other layers.
    """
    plus, minus = inputs, torch.zeros_like(inputs)
    for layer in module:
        if isinstance(layer, nn.Flatten):
            plus, minus = layer(plus), layer(minus)
        elif isinstance(layer, nn.ReLU):
            plus = torch.maximum(plus, minus)
        elif isinstance(layer, nn.Linear):
            up, down = layer.weight.clamp_min(0).T, (-layer.weight).clamp_min(0).T
            plus, minus = plus @ up + minus @ down, plus @ down + minus @ up
            plus = plus if layer.bias is None else plus + layer.bias
        else:
            raise InputError(f"expected linear layers and ReLUs, got a {type(layer).__name__}")
    return plus, minus
