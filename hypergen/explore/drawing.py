"""A canvas on which a grey image is drawn by hand."""

from collections.abc import Callable
from typing import Any

import torch
from nicegui import ui
from torch import Tensor

from hypergen.data import Dataset

BRIGHT = 0.5
"""The mean pixel from which on a data set is taken to be dark on bright."""


class Drawing(ui.element, component="drawing.js"):
    """A canvas of the data set's shape; `on_drawn` is called with an image [1,H,W] in [0,1]."""

    def __init__(self, dataset: Dataset, on_drawn: Callable[[Tensor], None]):
        super().__init__()
        _, self.rows, self.columns = dataset.input_shape
        is_bright = float(dataset.test.first(100)[0].mean()) > BRIGHT
        colours = ("white", "black") if is_bright else ("black", "white")
        self.props["columns"], self.props["rows"] = self.columns, self.rows
        self.props["background"], self.props["pen"] = colours
        self.props["label"] = "a canvas: draw here with the mouse, a pen or a finger"
        self._on_drawn = on_drawn
        self.on("drawn", lambda event: self._drawn(event.args))

    def clear_drawing(self) -> None:
        """Takes away what was drawn."""
        self.run_method("clear")

    def _drawn(self, pixels: Any) -> None:
        # It comes from a browser: anything may.
        count = self.rows * self.columns
        if isinstance(pixels, list) and [type(each) for each in pixels] == [int] * count:
            image = torch.tensor(pixels, dtype=torch.float32).clamp(0, 255) / 255
            self._on_drawn(image.view(1, self.rows, self.columns))
