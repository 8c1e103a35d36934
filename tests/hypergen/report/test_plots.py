from pathlib import Path

import numpy
import pytest
from matplotlib.figure import Figure

from hypergen.errors import InputError
from hypergen.report.plots import (
    curve_picture,
    heatmap,
    learning_rate_curve,
    require_picture,
    scatter,
    write_picture,
)

TITLE = "digits, linf, epsilon 0.1, pgd-50-1 on 300 test images"


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_name_says_the_format(tmp_path, name, begins):
    write_picture(tmp_path / name, Figure())
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_dots_an_inch(tmp_path):
    for dpi in (100, 50):
        write_picture(tmp_path / "a.png", Figure(figsize=(2, 1)), dpi=dpi)
        # The header's width and height.
        size = (tmp_path / "a.png").read_bytes()[16:24]
        assert size == (2 * dpi).to_bytes(4) + dpi.to_bytes(4)


def test_what_cannot_be_drawn_keeps_the_old_picture(tmp_path):
    file, unfinished = tmp_path / "a.png", Figure()
    file.write_bytes(b"old")
    unfinished.text(0, 0, "$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        write_picture(file, unfinished)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["x.txt", "x.pgf", "x"])
def test_a_format_that_cannot_be_drawn_is_refused_by_the_setting(name):
    with pytest.raises(InputError, match=f"^`picture`: {name} must end in one of .*\\.png"):
        require_picture(Path(name), "picture")
    require_picture(Path("x.png"), "picture")


def test_a_scatter_holds_every_network_that_has_the_figure(run_result):
    figure = scatter(run_result["networks"], "sra", TITLE)
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_title() == TITLE and axes.get_xlabel().startswith("SRA (%")
    shown = [tuple(point) for each in axes.collections for point in each.get_offsets().tolist()]
    measured = [row for row in run_result["networks"] if "sra" in row]
    assert shown == [(100 * row["sra"], 100 * row["accuracy"]) for row in measured]
    kinds = [text.get_text() for text in legend.get_texts()]
    assert kinds == ["sample", "start", "fbf", "fbf average"]


def test_a_curve_shows_means_and_intervals_over_beta():
    def point(beta: float, mean: float) -> dict:
        figures = {"mean": mean, "interval": [mean - 0.1, mean + 0.1]}
        return {"beta": beta, "count": 4, "accuracy": figures, "sra": figures}

    attack = {"threat": {"norm": "linf", "epsilon": 0.3}, "images": 50}
    result = {"dataset": "mnist", "attack": attack, "curve": [point(0, 0.95), point(1, 0.5)]}
    figure = curve_picture(result)
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_title().startswith("mnist, 4 networks a beta, linf, epsilon 0.3")
    assert "beta" in axes.get_xlabel() and "%" in axes.get_ylabel()
    assert [text.get_text() for text in legend.get_texts()] == ["accuracy", "SRA"]
    assert [[*line.get_ydata()] for line in axes.lines] == [[95, 50]] * 2
    figure.draw_without_rendering()
    drawn = numpy.asarray(axes.collections[0].get_paths()[0].vertices)
    assert drawn[:, 1].max() == 100 and drawn[:, 1].min() == pytest.approx(40)  # no share above 1
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_an_axis_says_what_its_figure_is():
    rows = [{"kind": "front", "accuracy": 0.9, "int8": 0.8, "robustness": 0.5}]
    attacked = "% of attacked images still classified correctly"
    for key, label in (("int8", "int8 (%)"), ("robustness", f"robustness ({attacked})")):
        assert scatter(rows, key, TITLE).axes[0].get_xlabel() == label


@pytest.mark.parametrize(("count", "written"), [(12, 144), (13, 0)])
def test_a_heatmap_has_numbers_where_they_can_be_read(count, written):
    rates = numpy.linspace(0, 0.8, count**2).reshape(count, count)
    axes, bar = heatmap(rates.tolist(), TITLE).axes
    assert len(axes.texts) == written and axes.get_title() == TITLE
    assert (axes.images[0].get_array() == 100 * rates).all()
    assert axes.get_ylabel() == "made against network" and "fooling rate" in bar.get_ylabel()
    assert axes.images[0].get_clim() == (0, pytest.approx(80))
    if written:
        text = axes.texts[count + 2]  # second row, third column
        assert text.get_position() == (2, 1) and text.get_text() == f"{100 * rates[1, 2]:.0f}"


def test_the_colours_of_a_heatmap_of_zeros_end_above_zero():
    axes, _ = heatmap([[0.0, 0.0], [0.0, 0.0]], TITLE).axes
    assert axes.images[0].get_clim() == (0, 1)


def test_the_learning_rate_curve_marks_both_bounds():
    rates, losses = [1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0]
    (axes,) = learning_rate_curve(rates, losses, (1e-3, 1e-2), TITLE).axes
    curve, *bounds = axes.lines
    assert curve.get_xdata().tolist() == rates and curve.get_ydata().tolist() == losses
    assert [line.get_xdata()[0] for line in bounds] == [1e-3, 1e-2]
    assert axes.get_xscale() == "log" and axes.get_title() == TITLE
