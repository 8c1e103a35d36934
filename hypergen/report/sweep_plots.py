"""Pictures of a sweep: its trials, its history, what mattered, and settings beside figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypergen.report.fronts import judged
from hypergen.report.palette import COLOURS, colour
from hypergen.report.plots import plot_area, titled
from hypergen.report.scatter import scatter
from hypergen.report.tables import threat_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPACITIES = {"dominated": 0.5, "front": 0.9}
"""Of trials by kind, those on top last."""


def sweep_title(text: str, result: Mapping[str, Any]) -> str:
    """What a picture of a sweep shows, and of which images, targets and threat.

    result: as `front_table` takes it, with `targets` and `threat`, None where it is varied.
    """
    about = [result["dataset"], *result["targets"]]
    if result["threat"] is not None:
        about.append(threat_text(result["threat"]))
    sizes = "; ".join(judged(result["measures"], result["report"], result["images"]))
    return f"{text}\n{', '.join(about)}\n{sizes}"


def trials_picture(result: Mapping[str, Any]) -> "Figure":
    """Accuracy against the next measure, a point a trial; the front on test images beside them."""
    rows, measure = result["trials"], result["measures"][1]
    text = f"{len(rows)} trials of a sweep, a point each, a mean over its samples"
    if len(result["measures"]) > 2:
        text += f"; two of {len(result['measures'])} measures"
    said = None
    if measure == "robustness":
        said = "SRA" if result["report"]["sra_samples"] else "PGD-50"
    return scatter(trial_points(rows), measure, sweep_title(text, result), said)


def trial_points(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A point for each trial and for each judged on test images; `kind` names its images too."""
    shown = [{**row, "kind": f"{row['kind']}, validation images"} for row in rows]
    return shown + [{"kind": "front, test images", **row["test"]} for row in rows if row["test"]]


def history_curve(values: Sequence[float], title: str) -> "Figure":
    """The hypervolume over finished trials; values in [0,1]."""
    figure, (axes,) = plot_area(title)
    axes.step(
        range(1, len(values) + 1),
        [100 * value for value in values],
        where="post",
        color=COLOURS["front"],
    )
    axes.set_xlabel("finished trials (number)")
    axes.set_ylabel("hypervolume (% of all that is\nbetter than guessing)")
    return figure


def importance_bars(importance: Mapping[str, Mapping[str, float]], title: str) -> "Figure":
    """How much of each measure's variance each setting explains; by measure and setting."""
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(name for own in importance.values() for name in own))
    figure = Figure(figsize=(6.5, 2 + 0.5 * len(settings)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(importance)
    for place, (measure, own) in enumerate(importance.items()):
        at = [
            index + (place - (len(importance) - 1) / 2) * height for index in range(len(settings))
        ]
        shares = [100 * own.get(name, 0.0) for name in settings]
        axes.barh(at, shares, height, label=measure, color=colour(measure, [*importance]))
    axes.set_yticks(range(len(settings)), settings)
    axes.invert_yaxis()
    axes.set_xlabel("variance over trials that a setting explains (%)")
    titled(figure, title)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def parallel_coordinates(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], measures: Sequence[str], title: str
) -> "Figure":
    """A line a trial through its settings and its measures, those on the front on top.

    rows: trials, each "front" or "dominated" as its `kind`, with what was varied and its measures
    by name. Each axis goes from the least to the greatest value, which stand at its ends; beside
    an axis of texts all of them stand.
    """
    from matplotlib.figure import Figure

    names = [*varied, *measures]
    figure = Figure(figsize=(1.5 + 1.6 * len(names), 5), layout="constrained")
    axes = figure.subplots()
    scaled = [_scaled([row[name] for row in rows], name in measures) for name in names]
    for kind, opacity in OPACITIES.items():
        for index, row in enumerate(rows):
            if row["kind"] == kind:
                heights = [places[index] for places, _ in scaled]
                axes.plot(range(len(names)), heights, color=COLOURS[kind], alpha=opacity)
        axes.plot([], [], color=COLOURS[kind], label=kind)
    for place, (_, marks) in enumerate(scaled):
        axes.axvline(place, color="0.3", linewidth=0.8)
        for height, text in marks:
            at_end = height in (0, 1) and len(marks) <= 2
            axes.annotate(
                text,
                (place, height),
                (0, 9 * (2 * height - 1)) if at_end else (4, 0),
                textcoords="offset points",
                ha="center" if at_end else "left",
                va="center",
                fontsize="small",
                bbox={"facecolor": "white", "alpha": 0.8, "pad": 1, "lw": 0},
            )
    axes.set_xticks(range(len(names)), [f"{n} (%)" if n in measures else n for n in names])
    axes.tick_params(axis="x", rotation=20)
    axes.set_yticks([])
    axes.set_ylim(-0.1, 1.1)
    axes.set_xlim(-0.3, len(names) - 0.5)
    titled(figure, title)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _scaled(values: Sequence[Any], is_share: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Values as places in [0,1], and the texts at places of their axis; 0.5 where all are equal."""
    if all(isinstance(value, int | float) for value in values):
        low, high = min(values), max(values)
        if high == low:
            return [0.5] * len(values), [(0.5, _number(low, is_share))]
        places = [(value - low) / (high - low) for value in values]
        return places, [(0.0, _number(low, is_share)), (1.0, _number(high, is_share))]
    order = list(dict.fromkeys(map(str, values)))
    if len(order) == 1:
        return [0.5] * len(values), [(0.5, order[0])]
    heights = {text: index / (len(order) - 1) for index, text in enumerate(order)}
    return [heights[str(value)] for value in values], [(at, text) for text, at in heights.items()]


def _number(value: float, is_share: bool) -> str:
    return f"{100 * value:.4g}" if is_share else f"{value:.4g}"
