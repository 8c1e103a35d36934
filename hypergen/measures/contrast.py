"""Accuracy on pale images (Hendrycks, Dietterich 2019)."""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.options import number


@MEASURES.register("contrast")
class Contrast(CorruptionMeasure):
    """Accuracy on pale images; option factor (0.15 of the contrast is left).

    Each channel is drawn towards its mean.

    Args:
        factor: of what is left of the contrast, in [0,1]; 1 changes nothing.
    """

    name = "contrast"

    def __init__(self, factor: float = 0.15):
        self.factor = number("factor", factor, 0, 1)

    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        # torchvision's `adjust_contrast` wants 1 or 3 channels and mixes them.
        return images.mean((-2, -1), keepdim=True).lerp(images, self.factor)
