"""The picture of a matrix: what carries over from which network to which."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITTEN = 12
"""Networks up to which the numbers stand in the cells."""


def heatmap(rates: Tensor, title: str) -> "Figure":
    """Fooling rates [P,P] in [0,1], a row for each network that they were made against.

    The colours end at the highest rate: among robust networks all are low.
    """
    from matplotlib.figure import Figure  # here, for it takes a second that others need not spend

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    percent = 100 * rates.cpu().numpy()
    highest = percent.max().clip(1)
    image = axes.imshow(percent, vmin=0, vmax=highest)
    figure.colorbar(image, label="fooling rate (% of test images)")
    if len(rates) <= WRITTEN:
        axes.set_xticks(range(len(rates)))
        axes.set_yticks(range(len(rates)))
        for row, values in enumerate(percent):
            for column, value in enumerate(values):
                colour = "black" if value > highest / 2 else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xlabel("tried on network")
    axes.set_ylabel("made against network")
    axes.set_title(title, fontsize="medium")
    return figure
