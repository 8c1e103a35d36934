"""Images and maps as the addresses that a page shows them by: they hold the picture itself."""

import base64
import io

import matplotlib
import matplotlib.colors
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hypergen.report.pixels import magnification, magnified, pixels

COLOURS = "viridis"
"""Matplotlib's name of the map's colours, which colour-blind people can tell apart."""
PALE = 0.35
"""How much of the colour of a cell is seen that is not known yet."""


def image_address(image: Tensor) -> str:
    """An image [C,H,W] in [0,1]; with other than 3 channels it is shown as their mean."""
    return _address(pixels(image.numpy()))


def change_address(clean: Tensor, attacked: Tensor) -> tuple[str, float]:
    """The change from one image [C,H,W] to another, on grey, and how many times it is magnified.

    The largest change becomes black or white. Without any change it is 1 time.
    """
    change = (attacked - clean).numpy()
    factor = magnification(change)
    return _address(pixels(magnified(change, factor))), factor


def map_address(values: Tensor, low: float, high: float) -> str:
    """Values [rows,columns], the lowest row first, as coloured cells.

    Where one is NaN the nearest known one is shown, paler; without any known the map is empty.
    """
    values = values.flip(0)
    known = (~values.isnan()).nonzero().double()
    if not len(known):
        return _address(np.zeros((*values.shape, 4), np.uint8))
    places = torch.ones_like(values).nonzero().double()
    rows, columns = known[torch.cdist(places, known).argmin(1)].long().T
    shares = (values[rows, columns] - low) / (high - low) if high > low else 0.5 + 0 * rows
    cells = matplotlib.colormaps[COLOURS](shares.view(values.shape).numpy())
    cells[..., 3] = np.where(values.isnan().numpy(), PALE, 1.0)
    return _address((255 * cells).round().astype(np.uint8))


def colour_bar() -> str:
    """The map's colours from the lowest to the highest, as a background in CSS."""
    steps = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 11))
    return f"linear-gradient(to right, {', '.join(map(matplotlib.colors.to_hex, steps))})"


def _address(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
