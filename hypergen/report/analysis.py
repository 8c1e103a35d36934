"""Tables and parts of pictures of analyses."""

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypergen.report.names import tails
from hypergen.report.palette import colour
from hypergen.report.plots import titled
from hypergen.report.tables import MISSING, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CHARACTERS = 24
"""Of names that have room side by side below a panel, and of a line of one."""


def analysis_table(found: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> Table:
    """What one analysis found: a row a group, with mean and standard deviation over its networks.

    found: title, figures, rows, skipped and failed, as `experiments.analyze.analyze` has them.
    """
    names, rows = tails([group["name"] for group in groups]), []
    for group in groups:
        own = [row for row in found["rows"] if row["group"] == group["name"]]
        if own:
            cells = (figure_text([row.get(name) for row in own]) for name in found["figures"])
            rows.append((names[group["name"]], str(len(own)), *cells))
    headers = (found["title"], "networks", *found["figures"])
    notes = [f"{name}: {meaning}" for name, meaning in found["figures"].items()]
    notes += [
        f"{names.get(name, name)} left out: {reason}" for name, reason in found["skipped"].items()
    ]
    notes += [
        f"{names.get(name, name)} failed: {reason}" for name, reason in found["failed"].items()
    ]
    return Table(headers, rows, notes)


def figure_text(values: Sequence[Any]) -> str:
    """ "0.98 +- 0.02", in four digits; "0.98" for one value; `MISSING` where none is known."""
    numbers = [value for value in values if isinstance(value, int | float)]
    known = [value for value in numbers if math.isfinite(value)]
    if not known:
        return MISSING
    mean = f"{statistics.fmean(known):.4g}"
    return mean if len(known) == 1 else f"{mean} +- {statistics.stdev(known):.2g}"


def panels(rows: int, columns: int, title: str, size: tuple[float, float] = (4.0, 3.2)) -> "Figure":
    """An empty picture with room for so many panels of `size` inches, and its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.4), layout="constrained")
    titled(figure, title)
    return figure


def known_by_group(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], figure: str
) -> dict[str, list[float]]:
    """A figure of the networks of each group, where it is known."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for row in rows:
        if row[figure] is not None:
            found[row["group"]].append(row[figure])
    return found


def points_by_group(
    axes: "Axes", names: Sequence[str], values: Mapping[str, Sequence[float]], label: str
) -> None:
    """One column of points a group, a point a network, a line at their mean.

    Groups of which no value is known are left out. label: of the vertical axis, with its unit.
    """
    shown = [name for name in names if values[name]]
    for place, name in enumerate(shown):
        own = list(values[name])
        offsets = [place + 0.25 * ((2 * i + 1) / len(own) - 1) for i in range(len(own))]
        axes.scatter(offsets, own, color=colour(name, names), s=18, alpha=0.8)
        axes.hlines(statistics.fmean(own), place - 0.35, place + 0.35, color="black", linewidth=1)
    group_ticks(axes, names, shown)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)


def group_ticks(axes: "Axes", names: Sequence[str], shown: Sequence[str]) -> None:
    """Names a panel's columns by groups, `shown` of all `names`; aslant where these are long."""
    short = tails(names)
    labels = [textwrap.fill(short[name], MAX_CHARACTERS) for name in shown]
    axes.set_xticks(range(len(labels)), labels, fontsize="small")
    widths = [max(map(len, label.splitlines())) for label in labels]
    if sum(widths) > MAX_CHARACTERS:
        for text in axes.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
