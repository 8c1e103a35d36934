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
    transfer_picture,
    write_picture,
    write_pictures,
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


def test_a_picture_of_a_folder_is_in_both_formats_and_always_the_same(tmp_path):
    def drawn() -> dict[str, bytes]:
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([1, 2])
        write_pictures(tmp_path / "a.b.png", figure, dpi=20)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first = drawn()
    assert {*first} == {"a.b.png", "a.b.svg"} and drawn() == first


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


def test_a_curve_shows_means_and_intervals_over_beta():
    def point(beta: float, mean: float) -> dict:
        figures = {"mean": mean, "interval": [mean - 0.1, mean + 0.1]}
        return {"beta": beta, "count": 4, "accuracy": figures, "sra": figures}

    attack = {"name": "standard", "threat": {"norm": "linf", "epsilon": 0.3}, "images": 50}
    result = {"dataset": "mnist", "targets": ["mlp"], "attack": attack}
    figure = curve_picture(result | {"curve": [point(0, 0.95), point(1, 0.5)]})
    (axes,) = figure.axes
    assert figure.get_suptitle().splitlines() == [
        "One generator's trade-off: 4 networks at each beta",
        "mnist, mlp, linf, epsilon 0.3, standard attacks on 50 test images",
    ]
    assert "beta" in axes.get_xlabel() and "%" in axes.get_ylabel()
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["accuracy", "SRA"]
    assert [[*line.get_ydata()] for line in axes.lines] == [[95, 50]] * 2
    figure.draw_without_rendering()
    drawn = numpy.asarray(axes.collections[0].get_paths()[0].vertices)
    assert drawn[:, 1].max() == 100 and drawn[:, 1].min() == pytest.approx(40)  # no share above 1


def test_a_curve_without_an_attack_has_accuracy_alone():
    points = [{"beta": b, "count": 1, "accuracy": {"mean": b, "interval": None}} for b in (0, 1)]
    result = {"dataset": "mnist", "targets": ["mlp"], "attack": None, "curve": points}
    figure = curve_picture(result)
    assert figure.get_suptitle().splitlines()[1] == "mnist, mlp, test images, no attack"
    assert not figure.axes[0].collections and len(figure.axes[0].lines) == 1


@pytest.mark.parametrize(("count", "written"), [(12, 144), (13, 0)])
def test_a_heatmap_has_numbers_where_they_can_be_read(count, written):
    rates = numpy.linspace(0, 0.8, count**2).reshape(count, count)
    axes, bar = heatmap(rates.tolist(), TITLE).axes
    assert len(axes.texts) == written and axes.figure.get_suptitle() == TITLE
    assert (axes.images[0].get_array() == 100 * rates).all()
    assert axes.get_ylabel() == "made against network" and "fooling rate" in bar.get_ylabel()
    assert axes.images[0].get_clim() == (0, pytest.approx(80))
    if written:
        text = axes.texts[count + 2]  # second row, third column
        assert text.get_position() == (2, 1) and text.get_text() == f"{100 * rates[1, 2]:.0f}"


def test_networks_are_called_by_the_ends_of_their_paths():
    files = ["/a/b/sample-0.safetensors", "/a/c/sample-0.safetensors"]
    attack = {"name": "pgd", "threat": {"norm": "linf", "epsilon": 0.3}, "images": 50}
    result = {"dataset": "mnist", "attack": attack, "fooling": [[0.5, 0.1], [0.2, 0.4]]}
    axes, _ = transfer_picture(result | {"networks": [{"file": file} for file in files]}).axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        names = [label.get_text() for label in labels]
        assert names == ["b/sample-0.safetensors", "c/sample-0.safetensors"]


def test_the_colours_of_a_heatmap_of_zeros_end_above_zero():
    axes, _ = heatmap([[0.0, 0.0], [0.0, 0.0]], TITLE).axes
    assert axes.images[0].get_clim() == (0, 1)


def test_the_learning_rate_curve_marks_both_bounds():
    rates, losses = [1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0]
    (axes,) = learning_rate_curve(rates, losses, (1e-3, 1e-2), TITLE).axes
    curve, *bounds = axes.lines
    assert curve.get_xdata().tolist() == rates and curve.get_ydata().tolist() == losses
    assert [line.get_xdata()[0] for line in bounds] == [1e-3, 1e-2]
    assert axes.get_xscale() == "log" and axes.figure.get_suptitle() == TITLE
