"""Plots of plain results, and the files they are drawn into.

matplotlib is imported inside the functions: it takes a second, which others need not spend.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergen.errors import InputError
from hypergen.report.tables import threat_text
from hypergen.storage.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTACKED = {"robustness": "robustness", "sra": "SRA", "pgd": "PGD"}
"""What shares of attacked images are called."""
MANY_POINTS = 8
"""Networks of a kind from which on their points are drawn small."""
MAX_LABELLED = 12
"""Networks up to which the numbers stand in the cells of a heatmap."""


def require_picture(file: Path, setting: str) -> None:
    """Raises `InputError`, which names the setting, unless the file's format can be drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes.keys() - {"pgf"})  # which needs LaTeX
    if file.suffix[1:] not in known:
        raise InputError(f"`{setting}`: {file} must end in one of .{', .'.join(known)}")


def write_picture(file: Path, figure: "Figure", dpi: int = 150) -> None:
    """Draws the figure into the file, with `dpi` dots an inch, as a whole or not at all.

    The format is the file's ending.
    """
    with replacing(file) as part:
        figure.savefig(part, format=file.suffix[1:], dpi=dpi)


def scatter(networks: Sequence[dict[str, Any]], key: str, title: str) -> "Figure":
    """Accuracy against another figure, one point a network, one colour a `kind`.

    networks: rows with `kind`, `accuracy` and most of them `key`, shares in [0,1]; those without
    are left out. key: the figure of the horizontal axis, such as "sra", or any measure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(row["kind"] for row in networks if key in row):
        rows = [row for row in networks if row["kind"] == kind and key in row]
        many = len(rows) >= MANY_POINTS
        axes.scatter(
            [100 * row[key] for row in rows],
            [100 * row["accuracy"] for row in rows],
            label=kind,
            s=24 if many else 60,
            marker="o" if many else "D",
            alpha=0.8,
        )
    attacked = " of attacked images still classified correctly" if key in ATTACKED else ""
    axes.set_xlabel(f"{ATTACKED.get(key, key)} (%{attacked})")
    axes.set_ylabel("accuracy (% of images)")
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)  # where it hides no point
    return figure


def curve_picture(result: Mapping[str, Any]) -> "Figure":
    """Accuracy and what else was measured over beta, each with its interval.

    result: `dataset`, `attack` (None or as `Evaluator.describe` has it), and `curve`, a point for
    each `beta` with the `mean` and `interval` of each figure.
    """
    from matplotlib.figure import Figure

    points, attack = result["curve"], result["attack"]
    betas = [point["beta"] for point in points]
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in ("accuracy", "pgd", "sra"):
        if name not in points[0]:
            continue
        means = [100 * point[name]["mean"] for point in points]
        (line,) = axes.plot(betas, means, marker="o", markersize=4, label=ATTACKED.get(name, name))
        if points[0][name]["interval"] is not None:
            ends = zip(*(point[name]["interval"] for point in points), strict=True)
            low, high = ([100 * min(max(end, 0.0), 1.0) for end in side] for side in ends)
            axes.fill_between(betas, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("beta (weight of robustness)")
    axes.set_ylabel("% of test images classified correctly")
    title = f"{result['dataset']}, {points[0]['count']} networks a beta"
    if attack:
        title += f", {threat_text(attack['threat'])}"
        title += f"\nattacks on {attack['images']} test images"
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)  # where it hides no point
    return figure


def heatmap(rates: Sequence[Sequence[float]], title: str) -> "Figure":
    """Fooling rates [P,P] in [0,1], a row for each network that examples were made against.

    The colours end at the highest rate: among robust networks all are low.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    percent = [[100 * rate for rate in row] for row in rates]
    highest = max(1.0, *(max(row) for row in percent))
    image = axes.imshow(percent, vmin=0, vmax=highest)
    figure.colorbar(image, label="fooling rate (% of test images)")
    if len(percent) <= MAX_LABELLED:
        axes.set_xticks(range(len(percent)))
        axes.set_yticks(range(len(percent)))
        for row, values in enumerate(percent):
            for column, value in enumerate(values):
                colour = "black" if value > highest / 2 else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xlabel("tried on network")
    axes.set_ylabel("made against network")
    axes.set_title(title, fontsize="medium")
    return figure


def learning_rate_curve(
    rates: Sequence[float], losses: Sequence[float], bounds: Sequence[float], title: str
) -> "Figure":
    """The smoothed loss over the learning rate, with the suggested bounds marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    for bound in bounds:
        axes.axvline(bound, linestyle="--", color="grey")
        axes.text(bound, max(losses), f" {bound:.2g}", va="top")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, smoothed")
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    return figure
