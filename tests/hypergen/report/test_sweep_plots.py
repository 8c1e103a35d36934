"""Pictures of a sweep."""

import pytest

from hypergen.report.sweep_plots import history_curve, importance_bars, parallel_coordinates

TITLE = "digits: 3 trials, validation images"


def test_the_history_has_a_step_for_each_trial():
    (axes,) = history_curve([0.1, 0.1, 0.4], TITLE).axes
    (line,) = axes.lines
    assert [*line.get_xdata()] == [1, 2, 3]
    assert [*line.get_ydata()] == pytest.approx([10, 10, 40])
    assert axes.get_title() == TITLE and "%" in axes.get_ylabel()


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
    assert [label.get_text() for label in axes.get_xticklabels()] == [*varied, *measures]
    ends = [text.get_text() for text in axes.texts]
    assert ends == ["0.25", "0.5", "relu", "swish", "7", "7", "0.8", "0.9"]
