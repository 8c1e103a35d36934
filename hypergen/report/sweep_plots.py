"""Pictures of a sweep: its history, what mattered, and settings beside figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"dominated": ("0.6", 0.5), "front": ("tab:blue", 0.9)}
"""Colour and opacity of trials by kind, those on top last."""


def history_curve(values: Sequence[float], title: str) -> "Figure":
    """The hypervolume over finished trials; values in [0,1]."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(range(1, len(values) + 1), [100 * value for value in values], where="post")
    axes.set_xlabel("finished trials")
    axes.set_ylabel("hypervolume (% of what is better than guessing)")
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    return figure


def importance_bars(importance: Mapping[str, Mapping[str, float]], title: str) -> "Figure":
    """How much of each measure's variance each setting explains; by measure and setting."""
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(name for own in importance.values() for name in own))
    figure = Figure(figsize=(6, 1.5 + 0.5 * len(settings)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(importance)
    for place, (measure, own) in enumerate(importance.items()):
        at = [
            index + (place - (len(importance) - 1) / 2) * height for index in range(len(settings))
        ]
        axes.barh(at, [100 * own.get(name, 0.0) for name in settings], height, label=measure)
    axes.set_yticks(range(len(settings)), settings)
    axes.invert_yaxis()
    axes.set_xlabel("variance over trials that a setting explains (%)")
    axes.set_title(title, fontsize="medium")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def parallel_coordinates(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], measures: Sequence[str], title: str
) -> "Figure":
    """A line a trial through its settings and its measures, those on the front on top.

    rows: trials, each of a `kind` in `KINDS`, with what was varied and its measures by name. Each
    axis goes from the least to the greatest value, of texts from the first to the last.
    """
    from matplotlib.figure import Figure

    names = [*varied, *measures]
    figure = Figure(figsize=(1.5 + 1.5 * len(names), 4.5), layout="constrained")
    axes = figure.subplots()
    scaled = [_scaled([row[name] for row in rows]) for name in names]
    for kind, (colour, opacity) in KINDS.items():
        for index, row in enumerate(rows):
            if row["kind"] == kind:
                heights = [places[index] for places, _ in scaled]
                axes.plot(range(len(names)), heights, color=colour, alpha=opacity)
        axes.plot([], [], color=colour, label=kind)
    for place, (_, ends) in enumerate(scaled):
        axes.axvline(place, color="0.3", linewidth=0.8)
        for height, end in zip((-0.04, 1.04), ends, strict=True):
            axes.text(place, height, end, ha="center", va="bottom" if height > 1 else "top")
    axes.set_xticks(range(len(names)), names, rotation=20)
    axes.tick_params(axis="x", pad=16)
    axes.set_yticks([])
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(title, fontsize="medium", pad=24)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _scaled(values: Sequence[Any]) -> tuple[list[float], tuple[str, str]]:
    """Values as places in [0,1], and what stands at both ends; 0.5 where all are equal."""
    if all(isinstance(value, int | float) for value in values):
        low, high = min(values), max(values)
        ends = f"{low:.4g}", f"{high:.4g}"
        places = [value - low for value in values]
    else:
        order = list(dict.fromkeys(map(str, values)))
        ends = order[0], order[-1]
        places = [order.index(str(value)) for value in values]
    most = max(places)
    return [place / most if most else 0.5 for place in places], ends
