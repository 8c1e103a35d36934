"""Brings images into one form: uint8 or float32 [N,C,H,W], grey or in colour, of one size."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hypergen.data.wording import abridged
from hypergen.errors import InputError

MAX_IMAGE_SIZE = 4096
"""Pixels of a side that images can be resized to; a few such pictures fill a gigabyte."""
GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
"""Pillow's modes without colour, beside those of 16 bits (I;16, I;16B, ...)."""


def require_image_size(image_size: int | None) -> None:
    """`InputError` unless it is None or a number of pixels that an image's side can have."""
    if image_size is None or (type(image_size) is int and 1 <= image_size <= MAX_IMAGE_SIZE):
        return
    raise InputError(
        f"`image_size` must be a whole number of pixels from 1 to {MAX_IMAGE_SIZE}, "
        f"got {abridged(image_size)}"
    )


def adapted(images: Tensor, image_size: int | None, grey: bool) -> Tensor:
    """Images [N,C,H,W] in grey and of that size where asked, uint8 or float32 as they came.

    grey: one channel, by the weights of ITU-R 601, as Pillow computes it.
    image_size: a square of that side; what was no square is stretched. Bilinear, with antialiasing.
    `InputError`: images to turn grey with neither 1 nor 3 channels.
    """
    if grey and images.shape[1] != 1:
        images = _grey(images)
    if image_size is None or images.shape[2:] == (image_size, image_size):
        return images
    size = (image_size, image_size)
    resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.round().to(torch.uint8) if images.dtype == torch.uint8 else resized.clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        raise InputError(f"`grey` is for images of 1 or 3 channels, got {images.shape[1]}")
    if images.dtype == torch.uint8:  # in whole numbers, so that every machine rounds alike
        red, green, blue = images.int().split(1, dim=1)
        return (19595 * red + 38470 * green + 7471 * blue + 2**15 >> 16).to(torch.uint8)
    red, green, blue = images.split(1, dim=1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0, 1)


def is_grey(mode: str) -> bool:
    """Whether images of that mode of Pillow have no colour."""
    return mode in GREY_MODES or mode.startswith("I;16")


def from_pillow(image: Image.Image, grey: bool) -> Tensor:
    """One picture as uint8 [C,H,W], with 1 channel if `grey`, else 3.

    What is transparent is laid on white; 16 bits are rounded to 8; floats must be in [0,1].
    ValueError: values that have no such meaning.
    """
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    values = torch.from_numpy(np.array(image.convert("L" if grey else "RGB")))
    return values[None] if grey else values.permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        values = np.asarray(image)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("its floats are not all in [0,1]")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("its values are not all of 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image
