"""Tables and parts of pictures of analyses."""

import pytest
from matplotlib.figure import Figure

from hypergen.report.analysis import (
    analysis_table,
    figure_text,
    known_by_group,
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
