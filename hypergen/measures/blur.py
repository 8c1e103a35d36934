"""Accuracy on blurred images (Hendrycks, Dietterich 2019)."""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.errors import InputError
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.options import number

REACH = 4
"""Standard deviations that the blur reaches, where the image is large enough."""


@MEASURES.register("blur")
class Blur(CorruptionMeasure):
    """Accuracy on blurred images; option std (1 pixel).

    By a Gaussian; images are mirrored at their edges.

    Args:
        std: of the Gaussian, in pixels, above 0.
    """

    name = "blur"

    def __init__(self, std: float = 1.0):
        self.std = number("std", std, 0)
        if self.std == 0:
            raise InputError("`std` must be above 0, got 0")

    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        reach = round(REACH * self.std)
        height, width = images.shape[-2:]  # an edge can be mirrored as far as there is an image
        size = [2 * min(reach, side - 1) + 1 for side in (width, height)]
        from torchvision.transforms.v2.functional import (
            gaussian_blur,
        )  # here, for it is slow to load

        return gaussian_blur(images, size, [self.std])
