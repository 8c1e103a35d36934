"""What an attack does to the activations inside networks, and which units are out of work.

Source: Peconi 2020, who compares the activations of clean and attacked images layer by layer.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergen.analysis.activation_layers import FLAT, find_activations
from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.report.palette import colour, for_text
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import SILENT, Progress
from targets import Population
from targets.graph import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 60
TAILS = 0.001
"""Share of the values beyond each end of a histogram."""
MAX_COLUMNS = 8
"""Layers that a picture shows; of deeper networks so many, evenly spread."""
CLEAN = "#888888"
"""The colour of clean images in the picture."""

Layers = dict[str, dict[str, Any]]
"""The figures of each activation layer of a network, by its name and in order."""


@ANALYSES.register("activations")
class Activations(Analysis):
    """What an attack does to the outputs of activation layers; dead and saturated units."""

    title = "activations"
    figures = {
        "moved": "how far an attack moves an activation layer's outputs for an image, relative to "
        "their length (L2), mean over images and layers",
        "dead": "share of units (channels of a convolution) that answer all images alike, mean "
        "over layers",
        "saturated": f"share of outputs, but those of dead units, where the activation's slope is "
        f"below {FLAT} (a ReLU that is off, a loser of k-WTA) or a KAF's input is outside its "
        "dictionary, mean over layers",
    }
    cost = 10.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        """The means over `layers`, and these, as `activation_layers` has them."""
        images, labels = context.images()
        if len(images) < 2:
            raise NotApplicable("it takes two images to see which units answer all alike")
        Graph.of(group.population)  # what it refuses need not be attacked
        attacked = context.attacked(group.population, images, labels)
        found = activation_layers(group.population, images, attacked, progress)
        return [
            {
                name: statistics.fmean(each[name] for each in layers.values())
                for name in self.figures
            }
            | {"layers": layers}
            for layers in found
        ]

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """Histograms, a row for each group and a column for each layer."""
        names = [group.name for group in groups]
        found = {name: [row["layers"] for row in rows if row["group"] == name] for name in names}
        return draw_histograms(found, context.caption(groups))


@full_precision()
def activation_layers(
    population: Population, images: Tensor, attacked: Tensor, progress: Progress = SILENT
) -> list[Layers]:
    """Of each network the figures of its activation layers: `compared`, `dead` and `saturated`.

    `dead`: the share of units that answer all clean images alike; `saturated`: the share of outputs
    that hardly follow their input, but those of dead units. A layer's module, or its function where
    it has none of its own, gives it its name.

    Args:
        images: clean ones [N,C,H,W].
        attacked: these, attacked against each network, [P,N,C,H,W].
        progress: counts networks.

    Raises:
        NotApplicable: there are no activation layers.
        TargetError: networks whose course depends on numbers.
    """
    graph = Graph.of(population)
    progress.start(len(population))
    found = []
    for network, points in zip(population, attacked, strict=True):
        network.requires_grad_(False)
        with torch.enable_grad():
            clean = find_activations(graph, network, images.detach().requires_grad_())
        with torch.no_grad():
            moved = find_activations(graph, network, points)
        if not clean:
            raise NotApplicable("the networks have no activation layers")
        layers: Layers = {}
        for name, layer in clean.items():
            dead = layer.constant()
            alive = ~dead.view(-1, *[1] * (layer.outputs.ndim - 2))
            layers[name] = {
                **compared(layer.outputs.detach(), moved[name].outputs),
                "dead": float(dead.double().mean()),
                "saturated": float((layer.saturated() & alive).double().mean()),
            }
        found.append(layers)
        progress.advance()
    return found


def compared(clean: Tensor, attacked: Tensor) -> dict[str, Any]:
    """How outputs [N,...] of a layer are distributed, and how far an image's move.

    Returns `range`, ends of a histogram beyond each of which a thousandth of all values lies;
    `clean` and `attacked`, over the same bins as shares of all values; `moved`, the L2 distance
    relative to the length of the clean outputs, mean over images; `zeros`, the share of clean
    outputs that are 0.
    """
    clean, attacked = clean.flatten(1), attacked.flatten(1)
    values = torch.stack([clean, attacked]).double().flatten()
    low, high = (float(values.kthvalue(k).values) for k in end_ranks(len(values)))
    if low == high:  # where it would choose ends of its own
        low, high = low - 0.5, high + 0.5
    shares = [
        (torch.histc(part.double(), BINS, low, high) / part.numel()).tolist()
        for part in (clean, attacked)
    ]
    length = clean.norm(dim=1).clamp_min(torch.finfo(clean.dtype).tiny)
    moved = (attacked - clean).norm(dim=1) / length
    return {
        "range": [low, high],
        "clean": shares[0],
        "attacked": shares[1],
        "moved": float(moved.mean()),
        "zeros": float((clean == 0).double().mean()),
    }


def end_ranks(count: int) -> tuple[int, int]:
    """Ranks, from 1, of the values at which a histogram begins and ends."""
    beyond = int(TAILS * count)
    return 1 + beyond, count - beyond


def draw_histograms(found: Mapping[str, Sequence[Layers]], caption: str) -> "Figure":
    """Histograms of clean and attacked images, a line for each network.

    found: the networks' layers by name of their group, which has a row; a column is a layer.
    """
    depth = max(len(networks[0]) for networks in found.values())
    spread = (round(i * (depth - 1) / (MAX_COLUMNS - 1)) for i in range(MAX_COLUMNS))
    columns = [*dict.fromkeys(spread)]
    title = (
        "Outputs of activation layers for clean and for attacked images,\n"
        f"a line a network; moved: by which share of their length (L2)\n{caption}"
    )
    figure = panels(len(found), len(columns), title, (max(2.9, 7 / len(columns)), 2.2))
    grid = figure.subplots(len(found), len(columns), squeeze=False)
    called = tails([*found])
    for axes_row, (group, networks) in zip(grid, found.items(), strict=True):
        colours = {"clean": CLEAN, "attacked": colour(group, [*found])}
        names = [*networks[0]]
        for axes, index in zip(axes_row, columns, strict=True):
            if index < len(names):
                _draw_layer(axes, [layers[names[index]] for layers in networks], colours)
                moved = statistics.fmean(layers[names[index]]["moved"] for layers in networks)
                text = f"{called[group]}, {names[index]}: moved {moved:.2f}"
                axes.set_title(text, fontsize="small")
            else:
                axes.set_axis_off()
        for height, (part, its_colour) in zip((0.88, 0.76), colours.items(), strict=True):
            place = axes_row[0].transAxes
            style = {"color": for_text(its_colour), "ha": "right", "transform": place}
            axes_row[0].text(0.95, height, part, **style)
        axes_row[0].set_ylabel("share of all outputs\nper unit of output", fontsize="small")
    for axes in grid[-1]:
        axes.set_xlabel("output", fontsize="small")
    return figure


def _draw_layer(
    axes: "Axes", networks: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> None:
    """Histograms of a layer, as densities, for they have bins of their own."""
    for layer in networks:
        low, high = layer["range"]
        width = (high - low) / BINS
        centres = [low + width * (bin + 0.5) for bin in range(BINS)]
        for part, its_colour in colours.items():
            densities = [share / width for share in layer[part]]
            axes.step(centres, densities, where="mid", color=its_colour, linewidth=0.8)
    axes.set_yscale("log")
