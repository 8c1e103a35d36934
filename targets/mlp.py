"""A small multi-layer perceptron: the quickest target to experiment with."""

import math

from torch import Tensor, nn

from targets.activations import activation


class MLP(nn.Module):
    """One hidden layer of 32; images [B,C,H,W] in [0,1] -> logits [B,K]."""

    def __init__(self, act: str, num_classes: int, input_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(math.prod(input_shape), 32),
            activation(act, 32),
            nn.Linear(32, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1))
