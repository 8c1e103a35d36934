"""LeNet-5 and its small relative.

Sources: LeCun et al. 1998, "Gradient-based learning applied to document recognition"; the small
one as in Ballarin 2020 (convolutions of 8 and 16 filters, one hidden dense layer).
"""

import torch
from torch import Tensor, nn

from targets.activations import make_activation


def flat_size(features: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """How many numbers `features` makes of one image [C,H,W]."""
    # In evaluation mode, or batch norm would refuse a single image.
    with torch.no_grad():
        size = features.eval()(torch.zeros(1, *input_shape)).numel()
    features.train()
    return size


class SmallLeNet5(nn.Module):
    """20,522 weights on 28x28 grey images; images [B,C,H,W] in [0,1] -> logits [B,K]."""

    def __init__(self, activation: str, num_classes: int, input_shape: tuple[int, int, int]):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_shape[0], 8, 5),
            nn.MaxPool2d(2),
            make_activation(activation, 8),
            nn.Conv2d(8, 16, 5),
            nn.MaxPool2d(2),
            make_activation(activation, 16),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.25),
            nn.Linear(flat_size(self.features, input_shape), 64),
            make_activation(activation, 64),
            nn.Dropout(0.5),
            nn.Linear(64, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


class LeNet5(nn.Module):
    """61,706 weights on 28x28 grey images; images [B,C,H,W] in [0,1] -> logits [B,K]."""

    def __init__(self, activation: str, num_classes: int, input_shape: tuple[int, int, int]):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_shape[0], 6, 5, padding=2),
            make_activation(activation, 6),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            make_activation(activation, 16),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_size(self.features, input_shape), 120),
            make_activation(activation, 120),
            nn.Linear(120, 84),
            make_activation(activation, 84),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
