"""The page of a sweep: its trials, its front, and what mattered."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from hypergen.report.fronts import front_table
from hypergen.report.page.blocks import (
    Block,
    Card,
    Chart,
    Figures,
    Page,
    Paragraphs,
    Picture,
    Section,
)
from hypergen.report.page.charts import axis, hundred, scatter
from hypergen.report.page.sessions import session_blocks
from hypergen.report.page.settings import settings_table
from hypergen.report.palette import COLOURS, colour
from hypergen.report.tables import MISSING, Table, percent


def sweep_page(
    name: str, result: Mapping[str, Any], config: Mapping[str, Any], parallel: bytes | None
) -> Page:
    """The page of a sweep.

    name: of its folder; result: what its results.json holds; config: its settings; parallel: the
    PNG of settings beside figures, where there is one.
    """
    rows, measures = result["trials"], result["measures"]
    parts: dict[str, Sequence[Block]] = {
        "The front": [Figures("The trials that no other beats", front_table(result))],
        "All trials": [*trial_blocks(result), *parallel_blocks(result, parallel)],
        "What mattered": importance_blocks(result["importance"]),
        "How the front grew": history_blocks(result["hypervolume"]["history"]),
        "How it was made": origin_blocks(result, config),
    }
    front = [row for row in rows if row["kind"] == "front"]
    volume = result["hypervolume"]["test"]
    cards = [Card("trials", str(len(rows) + len(result["pruned"])), f"{len(front)} on the front")]
    if volume is not None:
        cards.append(Card("hypervolume on test images", f"{volume:.4f}"))
    varied = ", ".join(result["varied"])
    return Page(
        name,
        f"sweep over {varied} on {result['dataset']}",
        f"How far can {' and '.join(measures)} be had together, by the choice of {varied}?",
        verdict(front, measures),
        [],
        cards,
        [Section(title, blocks) for title, blocks in parts.items() if blocks],
        result,
    )


def verdict(front: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> str:
    """What the front reaches on test images, or on validation images where it was not judged."""
    judged = [row["test"] for row in front if row["test"]]
    images = "test" if judged else "validation"
    found = judged or front
    if not found:
        return "No trial has finished yet."
    reached = []
    for name in measures:
        values = [row[name] for row in found]
        low, high = percent(min(values), 1), percent(max(values), 1)
        reached.append(f"{name} {low} to {high} %" if low != high else f"{name} {low} %")
    return f"On {images} images the front of {len(front)} trials reaches {' and '.join(reached)}."


def trial_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Accuracy against the next measure, a point a trial; those of the front on test images too."""
    rows, (_, second, *_) = result["trials"], result["measures"]
    if not rows:
        return []
    shown = [{**row, "kind": f"{row['kind']}, validation images"} for row in rows]
    shown += [{**row, **row["test"], "kind": "front, test images"} for row in rows if row["test"]]
    shown.sort(key=lambda row: row["kind"].startswith("dominated"))  # the front is what matters
    varied, measures = result["varied"], result["measures"]
    cells = [
        (
            row["run"],
            row["kind"],
            *(percent(row[name]) for name in measures),
            *(percent((row["test"] or {}).get(name)) for name in measures),
            *(text(row[name]) for name in varied),
        )
        for row in rows
    ]
    heads = [*(f"{name} (val)" for name in measures), *measures]
    table = Table(("run", "kind", *heads, *varied), cells)
    return [scatter("A point a trial", shown, {second: (second, None)}, table, varied)]


def text(value: Any) -> str:
    """A setting."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parallel_blocks(result: Mapping[str, Any], picture: bytes | None) -> list[Block]:
    """The picture of settings beside figures."""
    if picture is None:
        return []
    names = ", ".join([*result["varied"], *result["measures"]])
    told = f"A line a trial through {names}, those on the front on top; the table above has them."
    return [Picture("Settings beside figures, a line a trial", told, picture)]


def importance_blocks(importance: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """Bars: what share of a measure's variance over trials each setting explains."""
    settings = [*dict.fromkeys(name for own in importance.values() for name in own)]
    if not settings:
        return []
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escape(measure),
            "y": settings,
            "x": hundred(own.get(name, 0.0) for name in settings),
            "marker": {"color": colour(measure, [*importance])},
            "hovertemplate": "%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
        }
        for measure, own in importance.items()
    ]
    layout = {
        "xaxis": axis("variance over trials that a setting explains (%)"),
        "yaxis": axis("", autorange="reversed"),
        "barmode": "group",
    }
    cells = [
        (name, *(percent(own.get(name), 1) for own in importance.values())) for name in settings
    ]
    table = Table(("setting", *importance), cells, ["% of a measure's variance over trials"])
    return [Chart("What each setting explains of each measure", traces, layout, table)]


def history_blocks(values: Sequence[float]) -> list[Block]:
    """The hypervolume on validation images after each finished trial."""
    if not values:
        return []
    trials = [*range(1, len(values) + 1)]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": trials,
        "y": hundred(values),
        "line": {"shape": "hv", "color": COLOURS["front"]},
        "hovertemplate": "after %{x} trials: %{y:.2f} %<extra></extra>",
    }
    layout = {
        "xaxis": axis("finished trials"),
        "yaxis": axis("hypervolume (%)"),
    }
    cells = [(str(trial), percent(value)) for trial, value in zip(trials, values, strict=True)]
    table = Table(("trials", "hypervolume"), cells, ["% of what is better than guessing"])
    return [Chart("On validation images, after each trial", [trace], layout, table)]


def origin_blocks(result: Mapping[str, Any], config: Mapping[str, Any]) -> list[Block]:
    """The trials that were pruned or failed, the sizes of reports, and all settings."""
    blocks: list[Block] = []
    if result["pruned"]:
        rows = [
            (row["run"], MISSING if row["rung"] is None else percent(row["rung"], 0))
            for row in result["pruned"]
        ]
        blocks.append(Figures("Pruned trials", Table(("run", "after % of its steps"), rows)))
    if result["failed"]:
        blocks.append(Paragraphs([f"{run}: {why}" for run, why in result["failed"].items()]))
    blocks += session_blocks(result)
    blocks.append(Figures("Each trial's report", settings_table(result["report"]), folded=True))
    if config:
        blocks.append(Figures("All settings", settings_table(config), folded=True))
    return blocks
