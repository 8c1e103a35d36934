"""Pictures of a sweep."""

import pytest

from hypergen.report.sweep_plots import (
    history_curve,
    importance_bars,
    parallel_coordinates,
    sweep_title,
    trials_picture,
)

TITLE = "digits: 3 trials, validation images"


def test_the_history_has_a_step_for_each_trial():
    (axes,) = history_curve([0.1, 0.1, 0.4], TITLE).axes
    (line,) = axes.lines
    assert [*line.get_xdata()] == [1, 2, 3]
    assert [*line.get_ydata()] == pytest.approx([10, 10, 40])
    assert axes.figure.get_suptitle() == TITLE and "%" in axes.get_ylabel()


def test_each_setting_has_a_bar_for_each_measure():
    shares = {"accuracy": {"beta": 0.7, "steps": 0.3}, "robustness": {"beta": 1.0}}
    figure = importance_bars(shares, TITLE)
    (axes,), (legend,) = figure.axes, figure.legends
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70, 30, 100, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["beta", "steps"]
    assert [text.get_text() for text in legend.get_texts()] == ["accuracy", "robustness"]
    tops = [bar.get_y() for bar in axes.patches]
    assert len(set(tops)) == 4  # none hides another


def test_a_trial_is_a_line_through_settings_and_measures():
    rows = [
        {"kind": "front", "beta": 0.5, "activation": "relu", "accuracy": 0.9, "steps": 7},
        {"kind": "dominated", "beta": 0.25, "activation": "swish", "accuracy": 0.8, "steps": 7},
    ]
    varied, measures = ["beta", "activation", "steps"], ["accuracy"]
    figure = parallel_coordinates(rows, varied, measures, TITLE)
    (axes,) = figure.axes
    lines = [[*map(float, line.get_ydata())] for line in axes.lines if len(line.get_xdata()) == 4]
    assert lines == [[0, 1, 0.5, 0], [1, 0, 0.5, 1]]  # the front is drawn last
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [*varied, "accuracy (%)"]
    said = [text.get_text() for text in axes.texts]
    assert said == ["0.25", "0.5", "relu", "swish", "7", "80", "90"]


def test_every_text_of_a_categorical_axis_is_told():
    kinds = "relu", "swish", "kaf", "relu"
    rows = [
        {"kind": "front", "activation": kind, "accuracy": i / 4} for i, kind in enumerate(kinds)
    ]
    (axes,) = parallel_coordinates(rows, ["activation"], ["accuracy"], TITLE).axes
    places = {text.get_text(): text.xy for text in axes.texts if text.xy[0] == 0}
    assert places == {"relu": (0, 0), "swish": (0, 0.5), "kaf": (0, 1)}


@pytest.mark.parametrize(
    ("sra_samples", "said"), [(2, "standard robust accuracy, 2 samples"), (0, "PGD-50 alone")]
)
def test_a_title_says_what_trials_were_measured_on(sra_samples, said):
    sizes = {"samples": 4, "images": 50, "sra_samples": sra_samples, "sra_images": 20}
    row = {"kind": "front", "accuracy": 0.9, "robustness": 0.5}
    result = {
        "trials": [row | {"test": {"accuracy": 0.8, "robustness": 0.4}}],
        "measures": ["accuracy", "robustness"],
        "dataset": "digits",
        "targets": ["mlp"],
        "threat": {"norm": "linf", "epsilon": 0.1},
        "images": {"val": 300, "test": 500},
        "report": sizes,
    }
    assert sweep_title("Trials", result).splitlines()[1] == "digits, mlp, linf, epsilon 0.1"
    figure = trials_picture(result)
    assert said in " ".join(figure.get_suptitle().split())
    name = figure.axes[0].get_xlabel().split()[0]
    assert name == ("SRA" if sra_samples else "PGD-50")
    varied = sweep_title("Trials", result | {"targets": [], "threat": None})
    assert varied.splitlines()[1] == "digits"
