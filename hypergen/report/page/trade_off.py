"""What one generator reaches over the whole range of its preference."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.report.fronts import curve_table
from hypergen.report.page.blocks import Block, Chart
from hypergen.report.page.charts import axis, error_bars, hundred, label, told
from hypergen.report.palette import COLOURS, GREY
from hypergen.report.tables import Table, percent


def trade_off_blocks(
    result: Mapping[str, Any], curves: Mapping[str, Mapping[str, Any]]
) -> list[Block]:
    """Figures over beta, where there is a range of it, and how the front grew.

    curves: what was measured at several betas (see `curve_chart`), by their folder.
    """
    samples = [row for row in result["networks"] if row["kind"] == "sample" and "beta" in row]
    blocks: list[Block] = []
    if len({row["beta"] for row in samples}) > 1:
        blocks += [front_chart(result, samples), over_beta_chart(result, samples)]
    blocks += [curve_chart(name, curve) for name, curve in curves.items()]
    if "front_growth" in result:
        blocks.append(growth_chart(result["front_growth"]))
    return blocks


def front_chart(result: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Chart:
    """The samples as points between accuracy and robustness, coloured by what was asked for."""
    key = "sra" if all("sra" in row for row in samples) else "pgd"
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": hundred(row[key] for row in samples),
        "y": hundred(row["accuracy"] for row in samples),
        "text": [told(row, ("accuracy", "pgd", "sra")) for row in samples],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": [row["beta"] for row in samples],
            "colorscale": "Cividis",
            "showscale": True,
            "colorbar": {"title": {"text": "beta"}, "thickness": 12},
            "size": 11,
            "line": {"color": GREY, "width": 1},
        },
    }
    layout = {
        "xaxis": axis(f"{label(key)} (% of attacked images)"),
        "yaxis": axis("accuracy (% of images)"),
        "hovermode": "closest",
    }
    caption = "A point a sample, coloured by the beta that it was asked for"
    return Chart(caption, [trace], layout, beta_table(samples))


def over_beta_chart(result: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Chart:
    """What was measured (filled) and estimated (open) of each sample over its beta."""
    rows = sorted(samples, key=lambda row: row["beta"])
    betas = [row["beta"] for row in rows]
    traces = []
    for measure, key in (("accuracy", "accuracy"), ("robustness", "pgd")):
        base = {"type": "scatter", "mode": "markers", "x": betas}
        own = COLOURS[label(key)]
        hover = {"hovertemplate": "beta %{x:.3f}: %{y:.1f} %<extra>%{fullData.name}</extra>"}
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
        "xaxis": axis("beta (weight of robustness)", range=[-0.03, 1.03]),
        "yaxis": axis("% of images"),
        "hovermode": "closest",
    }
    caption = "What was asked for against what was got, and what the value network had estimated"
    return Chart(caption, traces, layout, beta_table(samples))


def beta_table(samples: Sequence[Mapping[str, Any]]) -> Table:
    """A row a sample, by its beta."""
    rows = [
        (
            f"{row['beta']:.4g}",
            percent(row["accuracy"]),
            percent(row["pgd"]),
            percent(row.get("sra")),
        )
        for row in sorted(samples, key=lambda row: row["beta"])
    ]
    return Table(("beta", "accuracy", "pgd", "SRA"), rows)


def curve_chart(name: str, result: Mapping[str, Any]) -> Chart:
    """Means and intervals of networks drawn at several betas; result: what curve.json holds."""
    points = result["curve"]
    betas = [point["beta"] for point in points]
    traces = []
    for key in (key for key in ("accuracy", "pgd", "sra") if key in points[0]):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(key),
            "x": betas,
            "y": hundred(point[key]["mean"] for point in points),
            "line": {"color": COLOURS[label(key)]},
            "hovertemplate": "beta %{x:.3f}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        }
        if all(point[key]["interval"] for point in points):
            ends = [point[key]["interval"] for point in points]
            trace["error_y"] = error_bars([point[key]["mean"] for point in points], ends)
        traces.append(trace)
    layout = {
        "xaxis": axis("beta (weight of robustness)"),
        "yaxis": axis("% of images"),
        "hovermode": "closest",
    }
    caption = (
        f"Networks drawn at each beta ({name}), mean and where the next network lies in 19 of 20 "
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
