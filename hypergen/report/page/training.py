"""How a training went: what was measured and estimated at each step, and the checks of both."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from hypergen.report.page.blocks import Block, Chart
from hypergen.report.page.charts import axis, hundred
from hypergen.report.palette import colour
from hypergen.report.tables import Table, percent

POINTS = 200
"""A curve has at most so many; each is the mean over as many steps as that takes."""
TABLE_ROWS = 10


def training_blocks(metrics: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[Block]:
    """Measured and estimated figures and the losses over the steps."""
    if len(metrics) < 2:
        return []
    blocks: list[Block] = []
    if any(f"measured/{name}" in row for row in metrics for name in measures):
        blocks.append(measures_chart(metrics, measures))
    if any("loss" in row for row in metrics):
        blocks.append(losses_chart(metrics))
    return blocks


def curve(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric, at most `POINTS` of them: means over neighbouring ones."""
    known = [(row["step"], row[name]) for row in metrics if name in row]
    size = -(-len(known) // POINTS) or 1
    chunks = [known[start : start + size] for start in range(0, len(known), size)]
    return tuple(  # type: ignore
        [statistics.fmean(pair[place] for pair in chunk) for chunk in chunks] for place in (0, 1)
    )


def measures_chart(metrics: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> Chart:
    """Each measure as it was measured (a line), estimated (dots) and checked (diamonds)."""
    traces = []
    for name in measures:
        own = colour(name, measures)
        for source, dash in (("measured", "solid"), ("estimated", "dot")):
            steps, values = curve(metrics, f"{source}/{name}")
            trace = _line(f"{name}, {source}", steps, hundred(values), own, dash)
            traces += [trace | {"hovertemplate": HOVER}] if steps else []
        checks = [row for row in metrics if f"check/{name}" in row]
        if checks:
            traces.append(_checks(name, checks, own))
    layout = {
        "xaxis": axis("step"),
        "yaxis": axis("% of images", range=[0, 103]),
        "hovermode": "closest",
    }
    caption = (
        "What training was told of its networks, on training images; diamonds are longer "
        "measurements on validation images, to check it"
    )
    return Chart(caption, traces, layout, checks_table(metrics, measures))


HOVER = "step %{x:.0f}: %{y:.1f} %<extra>%{fullData.name}</extra>"


def _line(
    name: str, x: Sequence[float], y: Sequence[float | None], line: str, dash: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape(name),
        "x": x,
        "y": y,
        "line": {"color": line, "dash": dash, "width": 1.5},
    }


def _checks(name: str, checks: Sequence[Mapping[str, Any]], mark: str) -> dict[str, Any]:
    told = [
        f"checked: {percent(row[f'check/{name}'], 1)} %"
        + "".join(
            f"<br>{word} {100 * row[f'check/{name}/{word}']:+.1f} points"
            for word in ("gap", "overestimate")
            if f"check/{name}/{word}" in row
        )
        for row in checks
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(f"{name}, checked"),
        "x": [row["step"] for row in checks],
        "y": hundred(row[f"check/{name}"] for row in checks),
        "text": told,
        "hovertemplate": "step %{x}<br>%{text}<extra>%{fullData.name}</extra>",
        "marker": {"color": mark, "symbol": "diamond", "size": 11},
    }


def checks_table(metrics: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> Table:
    """The checks of a training, or, where there were none, some of its measurements."""
    checks = [row for row in metrics if any(f"check/{name}" in row for name in measures)]
    words = ("", "/gap", "/overestimate")
    names = [f"check/{name}{word}" for name in measures for word in words]
    titles = [f"{name}{word.replace('/', ', ')}" for name in measures for word in words]
    if not checks:
        known = [row for row in metrics if f"measured/{measures[0]}" in row]
        checks = known[:: max(1, len(known) // TABLE_ROWS)]
        names = [f"{of}/{name}" for name in measures for of in ("measured", "estimated")]
        titles = [f"{name}, {of}" for name in measures for of in ("measured", "estimated")]
    rows = [(str(row["step"]), *(percent(row.get(name), 1) for name in names)) for row in checks]
    return Table(("step", *titles), rows, ["% of images; gap and overestimate in points"])


def losses_chart(metrics: Sequence[Mapping[str, Any]]) -> Chart:
    """The generator's and the value network's loss."""
    names = {"loss": "generator", "value_loss": "value network"}
    traces, rows = [], []
    for key, name in names.items():
        steps, values = curve(metrics, key)
        if steps:
            trace = _line(name, steps, values, colour(name, [*names.values()]), "solid")
            traces.append(trace | {"hovertemplate": "step %{x:.0f}: %{y:.4g}"})
            rows.append((name, f"{values[0]:.4g}", f"{min(values):.4g}", f"{values[-1]:.4g}"))
    layout = {"xaxis": axis("step"), "yaxis": axis("loss")}
    return Chart("Losses", traces, layout, Table(("of", "first", "least", "last"), rows))
