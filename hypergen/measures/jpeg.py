"""Accuracy on images compressed as JPEG (Hendrycks, Dietterich 2019)."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.errors import InputError
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.options import whole


@MEASURES.register("jpeg")
class Jpeg(CorruptionMeasure):
    """Accuracy on images stored as JPEG, grey or in colour; option quality (40).

    Args:
        quality: of the compression, 1 to 100.
    """

    name = "jpeg"

    def __init__(self, quality: int = 40):
        self.quality = whole("quality", quality, 1, 100)

    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        channels = images.shape[1]
        if channels not in (1, 3):
            raise InputError(f"`measure` {self.name}: JPEG has 1 or 3 channels, got {channels}")
        from torchvision.transforms.v2.functional import to_dtype  # here, for it is slow to load

        pixels = to_dtype(images, torch.uint8, scale=True).cpu()
        stored = torch.stack([self._stored(image) for image in pixels])
        return to_dtype(stored, images.dtype, scale=True).to(images.device)

    def _stored(self, image: Tensor) -> Tensor:
        """A uint8 image [C,H,W] as it is read again. By Pillow: torchvision gives up its own."""
        buffer = BytesIO()
        lines = image.permute(1, 2, 0)  # Pillow has channels last, and none of a grey image
        Image.fromarray(lines.squeeze(-1).numpy()).save(buffer, "JPEG", quality=self.quality)
        read = torch.from_numpy(np.array(Image.open(buffer)))
        return read.view(lines.shape).permute(2, 0, 1)
