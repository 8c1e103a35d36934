"""What one generator reaches over the whole range of its preference."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.knob import KNOBS, Name, knob_in, knob_of
from hypergen.report.fronts import curve_table
from hypergen.report.page.blocks import Block, Chart
from hypergen.report.page.charts import axis, error_bars, hundred, label, told
from hypergen.report.palette import COLOURS, GREY
from hypergen.report.tables import Table, percent


def trade_off_blocks(
    result: Mapping[str, Any], curves: Mapping[str, Mapping[str, Any]]
) -> list[Block]:
    """Figures over beta or radius, where there is a range of it, and how the front grew.

    curves: what was measured at several of them (see `curve_chart`), by their folder.
    """
    samples = [row for row in result["networks"] if row["kind"] == "sample" and knob_of(row)]
    blocks: list[Block] = []
    if len({row[knob_of(row)] for row in samples}) > 1:
        blocks += [front_chart(result, samples), over_range_chart(samples)]
    blocks += [curve_chart(name, curve) for name, curve in curves.items()]
    if "front_growth" in result:
        blocks.append(growth_chart(result["front_growth"]))
    return blocks


def front_chart(result: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Chart:
    """The samples as points between accuracy and robustness, coloured by what was asked for."""
    key = "sra" if all("sra" in row for row in samples) else "pgd"
    knob = knob_in(samples)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": hundred(row[key] for row in samples),
        "y": hundred(row["accuracy"] for row in samples),
        "text": [told(row, ("accuracy", "pgd", "sra")) for row in samples],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": [row[knob] for row in samples],
            "colorscale": "Cividis",
            "showscale": True,
            "colorbar": {"title": {"text": knob}, "thickness": 12},
            "size": 11,
            "line": {"color": GREY, "width": 1},
        },
    }
    layout = {
        "xaxis": axis(f"{label(key)} (% of attacked images)"),
        "yaxis": axis("accuracy (% of images)"),
        "hovermode": "closest",
    }
    caption = f"A point a sample, coloured by the {knob} that it was asked for"
    return Chart(caption, [trace], layout, asked_table(samples))


def over_range_chart(samples: Sequence[Mapping[str, Any]]) -> Chart:
    """What was measured (filled) and estimated (open) of each sample over what was asked."""
    knob = knob_in(samples)
    rows = sorted(samples, key=lambda row: row[knob])
    asked = [row[knob] for row in rows]
    traces = []
    for measure, key in (("accuracy", "accuracy"), ("robustness", "pgd")):
        base = {"type": "scatter", "mode": "markers", "x": asked}
        own = COLOURS[label(key)]
        hover = {"hovertemplate": hovered(knob)}
        measured = hundred(row[key] for row in rows)
        estimated = hundred(row["estimated"].get(measure) for row in rows)
        marks = {"color": own, "size": 9}
        name = f"{label(key)}, measured"
        traces.append({**base, "name": name, "y": measured, "marker": marks, **hover})
        if any(value is not None for value in estimated):
            marks = {"color": own, "size": 9, "symbol": "circle-open"}
            name = f"{measure}, estimated"
            traces.append({**base, "name": name, "y": estimated, "marker": marks, **hover})
    layout = {
        "xaxis": axis(KNOBS[knob]),
        "yaxis": axis("% of images"),
        "hovermode": "closest",
    }
    caption = "What was asked for against what was got, and what the value network had estimated"
    return Chart(caption, traces, layout, asked_table(samples))


def hovered(knob: Name) -> str:
    """What a point over that knob tells, as plotly's template."""
    return knob + " %{x:.3f}: %{y:.1f} %<extra>%{fullData.name}</extra>"


def asked_table(samples: Sequence[Mapping[str, Any]]) -> Table:
    """A row a sample, by what was asked of it."""
    knob = knob_in(samples)
    rows = [
        (
            f"{row[knob]:.4g}",
            percent(row["accuracy"]),
            percent(row["pgd"]),
            percent(row.get("sra")),
        )
        for row in sorted(samples, key=lambda row: row[knob])
    ]
    return Table((knob, "accuracy", "pgd", "SRA"), rows)


def curve_chart(name: str, result: Mapping[str, Any]) -> Chart:
    """Means and intervals over a range; result: what curve.json holds."""
    points = result["curve"]
    knob = knob_in(points)
    asked = [point[knob] for point in points]
    traces = []
    for key in (key for key in ("accuracy", "pgd", "sra") if key in points[0]):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(key),
            "x": asked,
            "y": hundred(point[key]["mean"] for point in points),
            "line": {"color": COLOURS[label(key)]},
            "hovertemplate": hovered(knob),
        }
        if all(point[key]["interval"] for point in points):
            ends = [point[key]["interval"] for point in points]
            trace["error_y"] = error_bars([point[key]["mean"] for point in points], ends)
        traces.append(trace)
    layout = {
        "xaxis": axis(KNOBS[knob]),
        "yaxis": axis("% of images"),
        "hovermode": "closest",
    }
    caption = (
        f"Networks drawn at each {knob} ({name}), mean and where the next network lies in 19 of 20 "
        "cases"
    )
    return Chart(caption, traces, layout, curve_table(result))


def growth_chart(growth: Mapping[str, Sequence[float]]) -> Chart:
    """The hypervolume of the generator's front over training; a quick measurement."""
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": growth["steps"],
        "y": hundred(growth["values"]),
        "line": {"color": COLOURS["accuracy"]},
        "hovertemplate": "step %{x}: %{y:.1f} %<extra></extra>",
    }
    layout = {
        "xaxis": axis("step"),
        "yaxis": axis("hypervolume (%)"),
    }
    rows = [
        (str(step), percent(value))
        for step, value in zip(growth["steps"], growth["values"], strict=True)
    ]
    caption = "How the front grew in training, by a quick measurement that is no figure to quote"
    return Chart(caption, [trace], layout, Table(("step", "hypervolume"), rows))
