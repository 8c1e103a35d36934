"""Normalisation: of the images, in a target's first layer, and of the values between layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
GROUPS = 8
"""Of group norm (Wu, He 2018): so many divide every width of the targets, and leave at least 2
channels to a group where 16 is the width."""

NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(GROUPS, channels),
    "none": lambda channels: nn.Identity(),
}


def normalization(kind: str, channels: int) -> nn.Module:
    """A fresh layer of the kind `batch`, `group` or `none` for `channels` channels."""
    return NORMALIZATIONS[kind](channels)


class Normalize(nn.Module):
    """Images [B,C,H,W] in [0,1], less `mean` and divided by `std`, one number a channel.

    The constants are buffers that no weight file holds.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def normalize(channels: int) -> Normalize:
    """For colour images with CIFAR-10's mean and standard deviation, else from [0,1] to [-1,1]."""
    if channels == 3:
        return Normalize(CIFAR10_MEAN, CIFAR10_STD)
    return Normalize((0.5,) * channels, (0.5,) * channels)
