"""Accuracy on noisy images (Hendrycks, Dietterich 2019)."""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.options import number


@MEASURES.register("noise")
class Noise(CorruptionMeasure):
    """Accuracy on images with Gaussian noise; option std (0.1, for pixels in [0,1]).

    Args:
        std: of the noise, for pixels in [0,1].
    """

    name = "noise"

    def __init__(self, std: float = 0.1):
        self.std = number("std", std, 0)

    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return images + self.std * torch.randn(images.shape, generator=rng).to(images)
