"""Residual networks for CIFAR-10.

`norm` is `batch`, `group` or `none`. Convolutions start He-normal. Without normalisation every
block would double the variance of what runs through the net, so there the last convolution of each
block starts smaller, by the square root of their number ("Stable ResNet", Hayou et al. 2021), and
convolutions have biases.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from targets.activations import make_activation
from targets.normalization import normalization, normalize


class CIFARResNet(nn.Module):
    """The CIFAR-10 net of He et al. 2016: images [B,C,H,W] in [0,1] -> logits [B,K].

    Depth 6n+2: three stages of n blocks with 16, 32 and 64 filters. Shortcuts have no weights
    (their option A), which makes 269,722 weights at depth 20 and 853,018 at 56.
    """

    def __init__(
        self,
        activation: str,
        num_classes: int,
        input_shape: tuple[int, int, int],
        *,
        depth: int,
        norm: str = "batch",
    ):
        super().__init__()
        blocks, before = [], 16
        for after in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(Block(before, after, 1 if before == after else 2, activation, norm))
                before = after
        self.layers = nn.Sequential(
            normalize(input_shape[0]),
            convolution(input_shape[0], 16, 3, norm),
            normalization(norm, 16),
            make_activation(activation, 16),
            *blocks,
        )
        self.head = nn.Linear(64, num_classes)
        initialise(self, norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images).mean((2, 3)))


class PreActResNet18(nn.Module):
    """The CIFAR-10 net of "Fast is better than free": images [B,C,H,W] in [0,1] -> logits [B,K].

    11,172,170 weights. Four stages of two blocks with 64 to 512 filters, normalised and activated
    before each convolution (He et al. 2016, "Identity mappings in deep residual networks") and once
    more before the pooling.
    """

    def __init__(
        self,
        activation: str,
        num_classes: int,
        input_shape: tuple[int, int, int],
        norm: str = "batch",
    ):
        super().__init__()
        blocks, before = [], 64
        for after in (64, 128, 256, 512):
            for stride in (1 if before == after else 2, 1):
                blocks.append(PreActBlock(before, after, stride, activation, norm))
                before = after
        self.layers = nn.Sequential(
            normalize(input_shape[0]),
            convolution(input_shape[0], 64, 3, norm),
            *blocks,
            normalization(norm, 512),
            make_activation(activation, 512),
        )
        self.head = nn.Linear(512, num_classes)
        initialise(self, norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images).mean((2, 3)))


class Block(nn.Module):
    """Two convolutions beside a shortcut without weights: [B,before,H,W] -> [B,after,H',W'].

    Where the size changes, the shortcut takes every `stride`th pixel and adds channels of zeros.
    """

    def __init__(self, before: int, after: int, stride: int, activation: str, norm: str):
        super().__init__()
        self.stride, self.added = stride, after - before
        self.conv1 = convolution(before, after, 3, norm, stride)
        self.norm1, self.act1 = normalization(norm, after), make_activation(activation, after)
        self.conv2 = convolution(after, after, 3, norm)
        self.norm2, self.act2 = normalization(norm, after), make_activation(activation, after)

    def forward(self, values: Tensor) -> Tensor:
        out = self.act1(self.norm1(self.conv1(values)))
        out = self.norm2(self.conv2(out))
        if self.added:
            values = values[:, :, :: self.stride, :: self.stride]
            values = F.pad(values, (0, 0, 0, 0, 0, self.added))
        return self.act2(out + values)


class PreActBlock(nn.Module):
    """Two convolutions behind their activations: [B,before,H,W] -> [B,after,H',W'].

    Where the size changes, the shortcut is a 1x1 convolution of the first activation, and else the
    input itself.
    """

    def __init__(self, before: int, after: int, stride: int, activation: str, norm: str):
        super().__init__()
        self.norm1, self.act1 = normalization(norm, before), make_activation(activation, before)
        self.conv1 = convolution(before, after, 3, norm, stride)
        self.norm2, self.act2 = normalization(norm, after), make_activation(activation, after)
        self.conv2 = convolution(after, after, 3, norm)
        self.shortcut = convolution(before, after, 1, norm, stride) if before != after else None

    def forward(self, values: Tensor) -> Tensor:
        out = self.act1(self.norm1(values))
        shortcut = values if self.shortcut is None else self.shortcut(out)
        return self.conv2(self.act2(self.norm2(self.conv1(out)))) + shortcut


def convolution(before: int, after: int, kernel: int, norm: str, stride: int = 1) -> nn.Conv2d:
    """One that keeps the size of the images, or divides it by `stride`."""
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=norm == "none")


@torch.no_grad()
def initialise(module: nn.Module, norm: str) -> None:
    """Starts the convolutions as the head of this file says."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if norm == "none":
        blocks = [layer for layer in module.modules() if isinstance(layer, Block | PreActBlock)]
        for block in blocks:
            block.conv2.weight /= len(blocks) ** 0.5
