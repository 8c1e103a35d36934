import re
import shlex

import pytest

from hypergen.report.summary import KEY, next_commands, run_table, value_network_lines


def off(error: float, by_images: float) -> str:
    """How the line of a value network begins."""
    return f"off by {error} points on average, where so few images alone make for {by_images}"


def parsed(cell: str) -> list[float]:
    """The figures of a cell, as shares; none of "-"."""
    return [float(number) / 100 for number in re.findall(r"\d+\.\d+", cell)]


def written(summary: dict | None) -> list[float]:
    """The figures that a cell of this summary should hold."""
    if summary is None:
        return []
    return [summary["mean"]] + [summary["std"]] * (summary["count"] > 1)


def test_every_figure_of_the_table_is_that_of_the_results(run_result):
    head, *lines = str(run_table(run_result)).split("\n")
    assert head.split() == ["networks", "accuracy", "PGD-50", "SRA", "disagree"]
    for line, (kind, summary) in zip(lines, run_result["summary"].items(), strict=False):
        name, count, accuracy, pgd, sra, disagree = re.split(r"  +", line)
        assert (name, int(count)) == (kind, summary["count"])
        assert parsed(accuracy) == pytest.approx(written(summary["accuracy"]), abs=0.5001e-3)
        beside = summary.get("pgd_on_sra_images", summary["pgd"])
        assert parsed(pgd) == pytest.approx(written(beside), abs=0.5001e-3)
        assert parsed(sra) == pytest.approx(written(summary.get("sra")), abs=0.5001e-3)
        apart = run_result["disagreement"].get(kind)
        assert parsed(disagree) == pytest.approx([] if apart is None else [apart], abs=0.5001e-4)


def test_sra_stands_beside_pgd_on_the_same_images_and_so_never_above_it(run_result):
    table = run_table(run_result)
    for row, summary in zip(table.rows, run_result["summary"].values(), strict=True):
        if "sra" not in summary:
            assert row[3].endswith("*") and row[4] == "-"
            continue
        assert "*" not in row[3] and parsed(row[3])[0] >= parsed(row[4])[0]
    notes = "\n".join(table.notes)
    assert "on all 360 images, PGD-50 and SRA on the same 100 and the first 2 networks" in notes
    assert "* PGD-50 of all networks on 300 images" in table.notes


def test_without_sra_pgd_is_on_all_its_images_and_flatters(make_result):
    result = make_result({"sample": [{"accuracy": 0.9, "pgd": 0.8}] * 2})
    table = run_table(result)
    assert table.rows == [("sample", "2", "90.0 +- 0.0", "80.0 +- 0.0", "-", "1.23")]
    notes = "\n".join(table.notes)
    assert "PGD-50 on 300" in notes and "PGD-50 alone flatters" in notes and "*" not in notes


def test_the_key_explains_the_kinds_that_the_table_has(run_result):
    key = run_table(run_result).key
    assert list(key) == ["sample", "start", "fbf", "fbf average", "3 sample voting", "disagree"]
    assert key["fbf average"] == KEY["fbf average"]


def test_inputs_outside_a_dictionary_are_told_by_kind(run_result):
    run_result["summary"]["sample"]["outside_dictionary"] = {"mean": 0.0167}
    assert any(note.endswith("most: sample 1.67") for note in run_table(run_result).notes)


def known(mean_error: float, spread: float, tau: float | None, **others: float | None) -> dict:
    """How well the value network knew the samples, as a run's results.json has it."""
    figures = {"mean_error": mean_error, "spread": spread, "kendall_tau": tau, "r2": 0.25}
    return (
        figures | {"measuring_error": 0.004, "ranking_error": 0.003, "training_tau": None} | others
    )


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (
            known(0.005, 0.002, 0.8, training_tau=0.9),
            off(0.5, 0.4) + "; the samples themselves "
            "differ by 0.2, too little to rank; over the whole training Kendall's tau 0.90",
        ),
        (
            known(0.005, 0.02, 0.8, ranking_error=0.03),
            off(0.5, 0.4) + "; the samples themselves differ by 2.0, too little to rank",
        ),
        (
            known(0.005, 0.02, 0.6),
            off(0.5, 0.4) + "; it ranks the samples well (Kendall's tau 0.60, R2 0.25)",
        ),
        (
            known(0.01, 0.02, 0.3),
            off(1.0, 0.4) + "; it ranks the samples roughly (Kendall's tau 0.30, R2 0.25)",
        ),
        (
            known(0.01, 0.02, -0.5, training_tau=0.1),
            off(1.0, 0.4) + "; it does not rank the "
            "samples at all (Kendall's tau -0.50, R2 0.25); over the whole training Kendall's tau "
            "0.10",
        ),
        (
            known(0.01, 0.02, None),
            off(1.0, 0.4) + "; it estimates the same for all samples",
        ),
    ],
)
def test_the_value_network_is_told_in_words_of_every_measure(run_result, figures, expected):
    names = "accuracy", "robustness", "int8"
    run_result["value_network"] = dict.fromkeys(names, figures)
    run_result["summary"]["sample"]["count"] = 8
    lines = [f"value network, {name}: {expected}" for name in names]
    assert value_network_lines(run_result) == lines
    assert set(lines) <= set(run_table(run_result).notes)


def test_one_sample_is_not_ranked(make_result):
    result = make_result({"sample": [{"accuracy": 0.9, "pgd": 0.8}]})
    result["value_network"] = {"robustness": known(0.01, 0.0, None, r2=None)}
    (line,) = value_network_lines(result)
    assert line.endswith("where so few images alone make for 0.4; so few samples cannot be ranked")


def test_the_next_commands_can_be_copied_whatever_the_folder_is_called():
    folder = "runs/it's a run; $HOME"
    commands = [
        ("the best 5 of 100", ["hypergen", "sample", folder, "--count", "100", "--keep", "5"]),
        ("what they are worth", ["hypergen", "evaluate", folder, "--attack", "standard"]),
    ]
    head, *lines = next_commands(commands).split("\n")
    assert head == "next:" and [line.strip() for line in lines[::2]] == [c[0] for c in commands]
    assert [shlex.split(line) for line in lines[1::2]] == [c[1] for c in commands]
