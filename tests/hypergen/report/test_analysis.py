"""Tables and parts of pictures of analyses."""

import math
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hypergen.report.analysis import (
    analysis_table,
    figure_text,
    group_ticks,
    known_by_group,
    panels,
    points_by_group,
)

ROWS = [
    {"group": "sample", "size": 1.0},
    {"group": "sample", "size": 2.0},
    {"group": "fbf", "size": None},
]


def test_figures_are_means_with_the_spread_of_networks():
    assert figure_text([1.0, 2.0]) == "1.5 +- 0.71"
    assert figure_text([0.123456]) == "0.1235"
    assert figure_text([None, float("nan"), "text", [1.0]]) == "-"


def test_a_table_has_a_row_a_group_and_says_what_was_left_out():
    found = {
        "title": "length",
        "figures": {"size": "in pixels"},
        "rows": ROWS,
        "skipped": {"pgd": "it is smooth"},
        "failed": {"standard": "ValueError: no"},
    }
    groups = [{"name": name} for name in ("sample", "fbf", "pgd", "standard")]
    first, *lines = str(analysis_table(found, groups)).splitlines()
    assert first.split() == ["length", "networks", "size"]
    assert [line.split() for line in lines[:2]] == [
        ["sample", "2", "1.5", "+-", "0.71"],
        ["fbf", "1", "-"],
    ]
    assert lines[2:] == [
        "size: in pixels",
        "pgd left out: it is smooth",
        "standard failed: ValueError: no",
    ]


def test_groups_without_values_have_no_column():
    values = known_by_group(ROWS, ["sample", "fbf"], "size")
    assert values == {"sample": [1.0, 2.0], "fbf": []}
    axes = Figure().subplots()
    points_by_group(axes, ["fbf", "sample"], values, "size (pixels)")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sample"]
    (points,) = axes.collections[:1]
    assert points.get_offsets()[:, 1].tolist() == pytest.approx([1.0, 2.0])


def test_names_of_groups_do_not_overlap_however_long_they_are():
    run = "/home/somebody/runs/{}/a-run-with-a-long-name"
    names = [f"{run.format(a)}: {kind}" for a in "ab" for kind in ("sample", "fbf", "standard")]
    figure = panels(1, 1, "Lengths", (4.0, 3.2))
    axes = figure.subplots()
    group_ticks(axes, names, names[1:])
    figure.draw_without_rendering()
    said = [label.get_text().replace("\n", "") for label in axes.get_xticklabels()]
    assert said[0].replace(" ", "") == "a/a-run-with-a-long-name:fbf"
    boxes = [turned(label) for label in axes.get_xticklabels()]
    assert all(right[0] > left[1] for left, right in pairwise(boxes))
    short = panels(1, 1, "Lengths").subplots()
    group_ticks(short, ["sample", "fbf"], ["sample", "fbf"])
    assert [label.get_rotation() for label in short.get_xticklabels()] == [0, 0]


def turned(text: Text) -> tuple[float, float]:
    """Where a text that is turned begins and ends across its own direction, in pixels."""
    angle = math.radians(text.get_rotation())
    anchor = text.get_transform().transform(text.get_position())
    across = -anchor[0] * math.sin(angle) + anchor[1] * math.cos(angle)
    size = text.get_fontsize() * text.get_figure(root=True).dpi / 72
    half = 0.6 * size * len(text.get_text().splitlines())
    return -across - half, -across + half
