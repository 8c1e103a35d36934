"""Pictures that a stranger reads without the text around them."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import binomtest

from hypergen.report.comparison import comparison_picture
from hypergen.report.palette import colour
from hypergen.report.scatter import run_scatter, scatter

TITLE = "digits, mlp, linf, epsilon 0.1, standard attacks on 100 test images"


def labels(axes: Axes) -> list[Text]:
    return [text for text in axes.texts if text.get_text()]


def require_readable(figure: Figure) -> None:
    """Labels hide neither points nor each other, and stay inside; lines of titles fit."""
    for axes in figure.axes:
        named = [(text.get_text(), Text.get_window_extent(text)) for text in labels(axes)]
        for (one, box), (other, its_box) in combinations(named, 2):
            assert not box.overlaps(its_box), (one, other)
        inside = axes.get_window_extent()
        for name, box in named:
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1, name
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1, name
            for points in axes.collections:
                for x, y in axes.transData.transform(points.get_offsets()):
                    assert not box.contains(x, y), name
    title = figure._suptitle  # pyright: ignore
    assert title is not None
    box = title.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 > max(axes.get_window_extent().y1 for axes in figure.axes)


def points(axes: Axes) -> list[tuple[float, float]]:
    return [tuple(point) for each in axes.collections for point in each.get_offsets().tolist()]


def run_like(sra: bool = True) -> dict:
    """Results as of a run on MNIST: some kinds close together, others far from all."""
    figures = {
        "sample": [(0.990, 0.95), (0.9913, 0.96), (0.9915, None)],
        "start": [(0.10, 0.03)],
        "standard": [(0.9916, 0.38)],
        "fbf": [(0.991, 0.95), (0.9889, 0.92)],
        "pgd": [(0.9877, 0.95)],
        "fbf + noise": [(0.9841, 0.86), (0.9828, 0.73)],
        "fbf average": [(0.161, 0.02)],
        "10 sample voting": [(0.9916, None)],
    }
    key = "sra" if sra else "pgd"
    rows = [
        {"kind": kind, "accuracy": accuracy, **({} if robust is None else {key: robust})}
        for kind, group in figures.items()
        for accuracy, robust in group
    ]
    threat = {"norm": "linf", "epsilon": 0.1}
    return {
        "dataset": "mnist",
        "targets": ["small-lenet5"],
        "attack": {"name": "pgd-50-1", "threat": threat, "images": 1000},
        "sra": {"name": "standard", "images": 100} if sra else None,
        "all_images": 10_000,
        "networks": rows,
    }


def test_a_runs_picture_says_all_and_hides_nothing():
    result = run_like()
    figure = run_scatter(result)
    whole, near = figure.axes
    assert figure.get_suptitle().splitlines()[-1] == (
        "mnist, small-lenet5, linf, epsilon 0.1, standard attacks on 100 test images"
    )
    for axes in figure.axes:
        assert axes.get_xlabel().startswith("SRA (% of 100 attacked images")
    assert whole.get_ylabel() == "accuracy (% of 10000 images classified correctly)"
    measured = [row for row in result["networks"] if "sra" in row]
    assert points(whole) == [(100 * row["sra"], 100 * row["accuracy"]) for row in measured]
    close = [row for row in measured if row["accuracy"] > 0.89 and row["sra"] >= 0.86]
    assert sorted(points(near)) == sorted((100 * r["sra"], 100 * r["accuracy"]) for r in close)
    said = [{text.get_text() for text in labels(axes)} for axes in figure.axes]
    assert said[0] == {"start", "standard", "fbf + noise", "fbf average", "magnified beside"}
    assert said[1] == {"sample", "fbf", "pgd", "fbf + noise"}
    (note,) = figure.texts[1:]
    assert "for lack of SRA: 1 of 3 sample, 10 sample voting" in note.get_text()
    require_readable(figure)


def test_bars_are_the_interval_of_a_typical_network():
    rows = [{"kind": "fbf", "accuracy": 0.98, "sra": share} for share in (0.5, 0.6, 0.9)]
    figure = scatter(rows, "sra", TITLE, images={"accuracy": 1000, "sra": 50})
    ends = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    exact = [binomtest(k, n).proportion_ci(method="wilson") for k, n in ((980, 1000), (30, 50))]
    assert ends[0] == [[60, pytest.approx(100 * end)] for end in (exact[0].low, exact[0].high)]
    assert ends[1] == [[pytest.approx(100 * end), 98] for end in (exact[1].low, exact[1].high)]
    require_readable(figure)


def test_pgd_stands_there_only_where_no_sra_was_measured_and_says_so():
    figure = run_scatter(run_like(sra=False))
    assert "PGD alone, which flatters" in " ".join(figure.get_suptitle().split())
    assert "pgd-50-1 on 1000 test images" in " ".join(figure.get_suptitle().split())
    assert figure.axes[0].get_xlabel().startswith("PGD (% of 1000 attacked")
    require_readable(figure)


def test_groups_are_called_by_the_ends_of_their_paths():
    path = "/home/somebody/experiments/with/a/very/long/path/{}/samples"
    groups = [
        {
            "path": path.format(name),
            "networks": [{"accuracy": 0.9 + 0.01 * i, "robustness": 0.5 + 0.1 * i}] * 4,
        }
        for i, name in enumerate(("first", "second", "third"))
    ]
    attack = {"name": "standard", "threat": {"norm": "l2", "epsilon": 0.5}, "images": 100}
    result = {"dataset": "digits", "attack": attack, "groups": groups, "all_images": 500}
    figure = comparison_picture(result | {"targets": ["mlp", "lenet5"]})
    assert "digits, mlp, lenet5, l2, epsilon 0.5" in figure.get_suptitle()
    said = [text.get_text().replace("\n", "") for text in labels(figure.axes[0])]
    assert said == ["first/samples", "second/samples", "third/samples"]
    assert figure.axes[0].get_xlabel().startswith("SRA (% of 100 attacked")
    require_readable(figure)


@pytest.mark.parametrize("count", [1, 100])
def test_labels_hide_nothing_however_many_points_there_are(count):
    def row(kind: str, i: int, at: Sequence[float]) -> dict:
        return {"kind": kind, "accuracy": at[0] + 0.0004 * (i % 10), "sra": at[1] + 0.004 * i / 10}

    places = {"sample": (0.9, 0.5), "fbf": (0.905, 0.5), "pgd": (0.9, 0.51), "mine": (0.91, 0.5)}
    rows = [row(kind, i, at) for kind, at in places.items() for i in range(count)]
    require_readable(scatter(rows, "sra", TITLE))


def test_an_axis_says_what_its_figure_is():
    rows = [{"kind": "front", "accuracy": 0.9, "int8": 0.8, "robustness": 0.5}]
    attacked = "% of attacked images still classified correctly"
    for key, label in (
        ("int8", "int8 (% of images classified correctly)"),
        ("robustness", f"robustness ({attacked})"),
    ):
        assert scatter(rows, key, TITLE).axes[0].get_xlabel() == label


def test_nothing_is_magnified_along_a_trade_off_and_an_empty_picture_can_be_drawn():
    rows = [{"kind": "a", "accuracy": 1 - i / 10, "sra": i / 10} for i in range(10)]
    rows += [row | {"kind": "b", "sra": row["sra"] + 0.02} for row in rows]
    assert len(scatter(rows, "sra", TITLE).axes) == 1
    assert points(scatter([], "sra", TITLE).axes[0]) == []


def test_a_kind_has_the_same_colour_in_every_picture():
    rows = run_like()["networks"]
    for kinds in (["sample", "fbf"], ["pgd", "fbf"]):
        figure = scatter([row for row in rows if row["kind"] in kinds], "sra", TITLE)
        (axes,) = figure.axes
        hues = [tuple(each.get_facecolor()[0][:3]) for each in axes.collections]
        wanted = [
            tuple(int(colour(k, kinds)[i : i + 2], 16) / 255 for i in (1, 3, 5)) for k in kinds
        ]
        order = [kind for kind in dict.fromkeys(row["kind"] for row in rows) if kind in kinds]
        assert dict(zip(order, hues, strict=True)) == dict(zip(kinds, wanted, strict=True))
