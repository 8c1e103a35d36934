"""Multi-layer perceptrons: the quickest target to experiment with, and a wide one.

The wider a k-WTA network is, the denser its discontinuities (Xiao et al. 2020).
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from targets.activations import make_activation


class MLP(nn.Module):
    """Hidden layers of the given widths; images [B,C,H,W] in [0,1] -> logits [B,K]."""

    def __init__(
        self,
        activation: str,
        num_classes: int,
        input_shape: tuple[int, int, int],
        hidden: tuple[int, ...] = (32,),
    ):
        super().__init__()
        widths = math.prod(input_shape), *hidden
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += nn.Linear(before, after), make_activation(activation, after)
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1))
