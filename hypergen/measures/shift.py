"""Accuracy on images that were moved (Engstrom et al. 2019, "Exploring the landscape of spatial
robustness"): networks of convolutions do not bear it by themselves.
"""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.data.augmentation import crop_and_flip
from hypergen.errors import InputError
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.options import whole


@MEASURES.register("shift")
class Shift(CorruptionMeasure):
    """Accuracy on images moved a little; option pixels (up to 3 to each side).

    Each image has a draw of its own, and is black where it leaves.

    Args:
        pixels: the farthest to each side, fewer than the image has.
    """

    name = "shift"

    def __init__(self, pixels: int = 3):
        self.pixels = whole("pixels", pixels, 0)

    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        side = min(images.shape[-2:])
        if self.pixels >= side:
            raise InputError(
                f"`measure` {self.name}: images of {side} pixels a side can be moved by up to "
                f"{side - 1}, got {self.pixels}"
            )
        return crop_and_flip(images, self.pixels, False, rng)
