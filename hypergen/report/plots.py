"""Plots of plain results, and the files they are drawn into.

matplotlib is imported inside the functions: it takes a second, which others need not spend.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergen.errors import InputError
from hypergen.knob import KNOBS, knob_in
from hypergen.report.labels import Label, along, boxes, place
from hypergen.report.names import tails
from hypergen.report.palette import BLUE, GREY, colour
from hypergen.report.tables import caption
from hypergen.storage.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABELLED = 12
"""Networks up to which the numbers stand in the cells of a heatmap."""
FORMATS = ".png", ".svg"
"""Endings of the files that a picture in a folder is drawn into."""
LEFT, RIGHT, ABOVE, BELOW, LINE = 0.75, 0.25, 0.35, 0.65, 0.2
"""Inches around the axes of a picture, and of each line of its title and notes."""
BETWEEN = 0.6
"""Inches between two axes."""
CHARACTERS = 14
"""Of a title, an inch."""


def require_picture(file: Path, setting: str) -> None:
    """Raises `InputError`, which names the setting, unless the file's format can be drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes.keys() - {"pgf"})  # which needs LaTeX
    if file.suffix[1:] not in known:
        raise InputError(f"`{setting}`: {file} must end in one of .{', .'.join(known)}")


def write_picture(file: Path, figure: "Figure", dpi: int = 150) -> None:
    """Draws the figure into the file, with `dpi` dots an inch, as a whole or not at all.

    The format is the file's ending. The same figure gives the same file.
    """
    from matplotlib import rc_context

    undated = {"Date": None} if file.suffix == ".svg" else None
    with replacing(file) as part, rc_context({"svg.hashsalt": "hypergen"}):
        figure.savefig(part, format=file.suffix[1:], dpi=dpi, metadata=undated)


def write_pictures(file: Path, figure: "Figure", dpi: int = 150) -> None:
    """Draws the figure into files of that name with all endings of `FORMATS`."""
    for suffix in FORMATS:
        write_picture(file.with_suffix(suffix), figure, dpi)


def heading(text: str, result: Mapping[str, Any]) -> str:
    """The title of a picture: what it shows, and below of which images, targets and attack.

    result: as `caption` takes it.
    """
    return f"{text}\n{caption(result)}"


def titled(figure: "Figure", title: str) -> int:
    """Writes the title above all, long lines broken; the number of lines."""
    limit = int(CHARACTERS * (figure.get_figwidth() - 0.2))
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, limit)]
    figure.suptitle("\n".join(lines), fontsize="medium")
    return len(lines)


def plot_area(
    title: str, columns: int = 1, size: tuple[float, float] = (5.2, 3.6), note: str = ""
) -> "tuple[Figure, list[Axes]]":
    """A figure and its axes side by side, each of `size` inches, below a title.

    The layout is final, so that labels can be placed. Long lines of the title are broken. note:
    stands in small letters below.
    """
    from matplotlib.figure import Figure

    width = LEFT + RIGHT + columns * size[0] + (columns - 1) * BETWEEN
    figure = Figure(figsize=(width, 1))
    above = ABOVE + LINE * titled(figure, title)
    below = BELOW + LINE * len(note.splitlines())
    height = below + size[1] + above
    figure.set_figheight(height)
    figure.subplots_adjust(
        left=LEFT / width,
        right=1 - RIGHT / width,
        bottom=below / height,
        top=1 - above / height,
        wspace=BETWEEN / size[0],
    )
    figure.text(0.01, 0.01, note, fontsize="x-small", color="0.35", va="bottom")
    plots = figure.subplots(1, columns, squeeze=False)[0]
    for axes in plots:
        axes.grid(alpha=0.3)
    return figure, [*plots]


def curve_picture(result: Mapping[str, Any]) -> "Figure":
    """Accuracy and what else was measured over beta or radius, each with its interval.

    result: `dataset`, `attack` (None or as `Evaluator.describe` has it), and `curve`, a point for
    each of them with the `mean` and `interval` of each figure.
    """
    points, attack = result["curve"], result["attack"]
    knob = knob_in(points)
    asked = [point[knob] for point in points]
    names = {"accuracy": "accuracy", "sra": "SRA"}
    if "sra" not in points[0]:
        names = {"accuracy": "accuracy", "pgd": "PGD"}
    text = f"One generator's trade-off: {points[0]['count']} networks at each {knob}"
    title = heading(text, result) if attack else f"{text}\n{_unattacked(result)}"
    band = f"Bands: where the next network of the same {knob} lies in 19 of 20 cases."
    figure, (axes,) = plot_area(title, note=band if points[0]["accuracy"]["interval"] else "")
    labels, hidden = [], []
    for name, said in names.items():
        if name not in points[0]:
            continue
        means = [100 * point[name]["mean"] for point in points]
        hue = colour(said, [*names.values()])
        axes.plot(asked, means, marker="o", markersize=4, color=hue)
        if points[0][name]["interval"] is not None:
            ends = zip(*(point[name]["interval"] for point in points), strict=True)
            low, high = ([100 * min(max(end, 0.0), 1.0) for end in side] for side in ends)
            axes.fill_between(asked, low, high, alpha=0.2, color=hue, linewidth=0)
        labels.append(Label(said, (asked[-1], means[-1]), hue))
        hidden += [*along([*zip(asked, means, strict=True)])]
    axes.set_xlabel(KNOBS[knob])
    axes.set_ylabel("images classified correctly (%)")
    axes.autoscale_view()
    place(axes, labels, boxes(axes, hidden, 4))
    return figure


def _unattacked(result: Mapping[str, Any]) -> str:
    return ", ".join([result["dataset"], *result.get("targets", ()), "test images, no attack"])


def transfer_picture(result: Mapping[str, Any]) -> "Figure":
    """Which networks are fooled by what was made to fool which, as `hypergen transfer` found it."""
    files = [row["file"] for row in result["networks"]]
    names = tails(files)
    title = heading("How far examples made against one network fool the others", result)
    return heatmap(result["fooling"], title, [names[file] for file in files])


def heatmap(
    rates: Sequence[Sequence[float]], title: str, names: Sequence[str] | None = None
) -> "Figure":
    """Fooling rates [P,P] in [0,1], a row for each network that examples were made against.

    The colours end at the highest rate: among robust networks all are low. names: of the networks;
    by default their numbers, as where there are more than `MAX_LABELLED`.
    """
    from matplotlib.figure import Figure

    count = len(rates)
    shown = names if names is not None and count <= MAX_LABELLED else None
    longest = max(map(len, shown)) if shown else 0
    room = 0.07 * longest  # inches, for the names
    figure = Figure(figsize=(6.5 + room, 5.2 + room), layout="constrained")
    axes = figure.subplots()
    percent = [[100 * rate for rate in row] for row in rates]
    highest = max(1.0, *(max(row) for row in percent))
    image = axes.imshow(percent, vmin=0, vmax=highest)
    figure.colorbar(image, label="fooling rate (% of test images)")
    if count <= MAX_LABELLED:
        axes.set_xticks(range(count), shown)
        axes.set_yticks(range(count), shown)
        axes.tick_params(axis="x", rotation=90 if shown else 0)
        for row, values in enumerate(percent):
            for column, value in enumerate(values):
                dark = "black" if value > highest / 2 else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=dark)
    axes.set_xlabel("tried on network")
    axes.set_ylabel("made against network")
    titled(figure, title)
    return figure


def learning_rate_curve(
    rates: Sequence[float], losses: Sequence[float], bounds: Sequence[float], title: str
) -> "Figure":
    """The smoothed loss over the learning rate, with the suggested bounds marked."""
    figure, (axes,) = plot_area(title)
    axes.plot(rates, losses, color=BLUE)
    for bound, name in zip(bounds, ("lower", "upper"), strict=True):
        axes.axvline(bound, linestyle="--", color=GREY)
        above = (bound, 1.0)
        said = f"{name}: {bound:.2g}"
        transform = axes.get_xaxis_transform()
        axes.annotate(
            said, above, (0, 3), transform, "offset points", fontsize="small", ha="center"
        )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate (no unit)")
    axes.set_ylabel("training loss, smoothed (nats)")
    return figure
