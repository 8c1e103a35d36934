"""What the charts of all pages share: colours and marks of kinds, axes, what a point tells."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from hypergen.knob import asked_text, knob_of
from hypergen.report.page.blocks import Chart, View
from hypergen.report.palette import colour, marker
from hypergen.report.tables import Table, percent

SYMBOLS = {
    "o": "circle",
    "X": "x",
    "s": "square",
    "D": "diamond",
    "*": "star",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "d": "diamond-tall",
}
"""Markers, as matplotlib names them -> as plotly does."""
LABELS = {"sra": "SRA", "pgd": "PGD"}
"""What figures are called whose names in a row are short."""
SHOWN_Z = 8
"""Numbers of a latent sample that a point tells."""
NEAR = 10.0
"""Points of percent within which of the samples a network belongs to their cluster."""
MARGIN = 0.08
"""Of a view, beyond what it shows."""


def axis(title: str, **others: Any) -> dict[str, Any]:
    """An axis with its title, which names the unit."""
    return {"title": {"text": title}, **others}


def hundred(values: Iterable[float | None]) -> list[float | None]:
    """Shares as percent."""
    return [None if value is None else 100 * value for value in values]


def label(key: str) -> str:
    """What a figure of a network is called."""
    return LABELS.get(key, key)


def told(row: Mapping[str, Any], keys: Sequence[str], settings: Sequence[str] = ()) -> str:
    """What a point tells of a network or trial: its file, settings, figures and z, for plotly."""
    name = next((row[key] for key in ("file", "run", "kind") if key in row), "")
    lines = [f"<b>{escape(name)}</b>"]
    lines += [f"{escape(each)} {escape(str(row[each]))}" for each in settings]
    if knob_of(row) not in (None, *settings):
        lines.append(asked_text(row))
    lines += [f"weight of {n}: {w:.4g}" for n, w in row.get("preference", {}).items()]
    lines += [f"{label(key)} {percent(row[key])} %" for key in keys if key in row]
    for name, value in row.get("estimated", {}).items():
        lines.append(f"{escape(name)}, estimated {percent(value)} %")
    if "z" in row:
        numbers = ", ".join(f"{number:.2f}" for number in row["z"][:SHOWN_Z])
        more = f", ... ({len(row['z'])} numbers)" if len(row["z"]) > SHOWN_Z else ""
        lines.append(f"z = {numbers}{more}")
    return "<br>".join(lines)


def mark(kind: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Colour and symbol of a kind among all of a chart, those of pictures."""
    return {"color": colour(kind, kinds), "symbol": SYMBOLS[marker(kind, kinds)]}


def error_bars(shares: Sequence[float], ends: Iterable[Sequence[float]]) -> dict[str, Any]:
    """The intervals around shares, as plotly takes them.

    ends: the lower and the upper of each.
    """
    pairs = [*zip(shares, ends, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (high - share) for share, (_, high) in pairs],
        "arrayminus": [100 * (share - low) for share, (low, _) in pairs],
        "thickness": 1,
    }


def points(
    rows: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    key: str,
    interval: str | None = None,
    shown: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """A trace a kind: accuracy against another figure, a point a network.

    rows: networks with a `kind` in `kinds`; those without the figure are left out. interval: the
    name of the figure's interval. shown, settings: what a point tells.
    """
    traces = []
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind and key in row]
        if not own:
            continue
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": escape(kind),
            "x": hundred(row[key] for row in own),
            "y": hundred(row["accuracy"] for row in own),
            "text": [told(row, shown, settings) for row in own],
            "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            "marker": mark(kind, kinds) | {"size": 9, "opacity": 0.85},
        }
        if interval is not None:
            shares = [row[key] for row in own]
            ends = [row.get(interval) or (row[key], row[key]) for row in own]  # those of no length
            shape = {"width": 0, "color": colour(kind, kinds)}
            trace["error_x"] = error_bars(shares, ends) | shape
        traces.append(trace)
    return traces


def span(values: Sequence[float], least: float = 1.0) -> list[float]:
    """The range of an axis that shows all values, at least so many points of percent wide."""
    low, high = min(values), max(values)
    extra = max(MARGIN * (high - low), (least - (high - low)) / 2)
    return [low - extra, high + extra]


def cluster(traces: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The ranges of both axes that show the first trace and what lies near it.

    Near is what lies within `NEAR` points of some network of the first trace on both axes.
    """
    first = [*zip(traces[0]["x"], traces[0]["y"], strict=True)]
    close = [
        (x, y)
        for trace in traces
        for x, y in zip(trace["x"], trace["y"], strict=True)
        if any(abs(x - a) <= NEAR and abs(y - b) <= NEAR for a, b in first)
    ]
    return {
        "xaxis.range": span([x for x, _ in close]),
        "yaxis.range": span([y for _, y in close]),
    }


def scatter(
    caption: str,
    rows: Sequence[Mapping[str, Any]],
    keys: Mapping[str, tuple[str, str | None]],
    table: Table,
    settings: Sequence[str] = (),
) -> Chart:
    """Accuracy against other figures, a button for each, of all networks and of those near samples.

    keys: what a figure's axis says -> its name in a row and that of its interval, the first shown
    first. The first kind of `rows` is what the near view is about. settings: what a point tells.
    """
    kinds = [*dict.fromkeys(row["kind"] for row in rows)]
    names = ["accuracy", *(key for key, _ in keys.values())]
    groups = {
        title: points(rows, kinds, key, interval, names, settings)
        for title, (key, interval) in keys.items()
    }
    groups = {title: traces for title, traces in groups.items() if traces}
    traces = [trace for group in groups.values() for trace in group]
    views = []
    for title, group in groups.items():
        shown = [any(trace is each for each in group) for trace in traces]
        whole = {"xaxis.title.text": f"{title} (% of images)"}
        xs, ys = ([v for trace in group for v in trace[name]] for name in "xy")
        all_of_it = {"xaxis.range": span(xs), "yaxis.range": span(ys)}
        few = title if len(groups) > 1 else ""
        separator = ", " if few else ""
        views.append(View(f"{few}{separator}all networks", shown, whole | all_of_it))
        near = cluster(group)
        if near != all_of_it:
            views.append(View(f"{few}{separator}close up", shown, whole | near))
    layout = {"xaxis": axis(""), "yaxis": axis("accuracy (% of images)"), "hovermode": "closest"}
    return Chart(caption, traces, layout, table, views)
