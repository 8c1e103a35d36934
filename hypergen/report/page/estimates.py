"""How well the value network knew networks before they were measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.report.page.blocks import Block, Chart, Figures, Paragraphs
from hypergen.report.page.charts import axis, hundred, mark, span, told
from hypergen.report.tables import MISSING, Table, percent

SHARES = {
    "mean error": "mean_error",
    "overestimate": "overestimate",
    "measuring error": "measuring_error",
    "spread": "spread",
}
NUMBERS = {"Kendall's tau": "kendall_tau", "R2": "r2", "tau over training": "training_tau"}


def estimate_blocks(result: Mapping[str, Any], lines: Sequence[str]) -> list[Block]:
    """A sentence and a chart a measure, and all figures of the agreement.

    lines: what there is to say of each measure.
    """
    found = result.get("value_network")
    if not found:
        return []
    rows = [
        (
            name,
            *(percent(own[key]) for key in SHARES.values()),
            *(MISSING if own[key] is None else f"{own[key]:.2f}" for key in NUMBERS.values()),
        )
        for name, own in found.items()
    ]
    notes = ["the first columns in points of percent; the rest are plain numbers"]
    table = Table(("measure", *SHARES, *NUMBERS), rows, notes)
    texts = [f"{line.removeprefix('value network, ')}." for line in lines]
    samples = [row for row in result["networks"] if "estimated" in row]
    charts = [estimates_chart(name, samples, name) for name in found]
    return [Paragraphs(texts), Figures("Estimates against what was measured", table), *charts]


def estimates_chart(name: str, rows: Sequence[Mapping[str, Any]], key: str) -> Chart:
    """What was estimated of each network against what was measured, and the line of no error.

    key: of the measured figure in a row.
    """
    known = [row for row in rows if key in row and name in row["estimated"]]
    measured = hundred(row[key] for row in known)
    estimated = hundred(row["estimated"][name] for row in known)
    both = [value for value in (*measured, *estimated) if value is not None]
    ends = span(both) if both else [0.0, 100.0]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "no error",
            "x": ends,
            "y": ends,
            "line": {"color": "#888888", "dash": "dash", "width": 1},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "sample",
            "x": measured,
            "y": estimated,
            "text": [told(row, ("accuracy", key)) for row in known],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": mark("sample", ["sample"]) | {"size": 9, "opacity": 0.85},
        },
    ]
    layout = {
        "xaxis": axis(f"{name}, measured (%)", range=ends),
        "yaxis": axis(f"{name}, estimated (%)", range=ends),
        "hovermode": "closest",
        "square": True,
    }
    cells = [
        (
            str(row.get("file", place)),
            percent(row[key]),
            percent(row["estimated"][name]),
            f"{100 * (row['estimated'][name] - row[key]):+.2f}",
        )
        for place, row in enumerate(known)
    ]
    table = Table(("network", "measured", "estimated", "difference"), cells)
    return Chart(f"{name}: estimated against measured, a point a sample", traces, layout, table)
