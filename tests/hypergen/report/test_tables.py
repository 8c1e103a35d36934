import re
import statistics

import pytest

from hypergen.report.tables import (
    OUTSIDE,
    Table,
    caption,
    estimates_table,
    evaluation_table,
    mean_and_std,
    percent,
    short,
    transfer_table,
)

THREAT = {"norm": "linf", "epsilon": 0.1}


def cells(line: str) -> list[str]:
    """The cells of a line of text: two spaces at least stand between them."""
    return re.split(r"  +", line.strip())


def figures(line: str) -> list[float]:
    """The figures behind a line's name, as shares."""
    return [float(cell) / 100 for cell in cells(line)[1:]]


def within_rounding(shares: list[float]):
    return pytest.approx(shares, abs=0.5e-4 + 1e-12)


def network(file: str, accuracy: float, pgd: float, **more) -> dict:
    row = {"file": file, "accuracy": accuracy, "pgd": pgd, "robustness": pgd}
    return {**row, "interval": [pgd - 0.031, pgd + 0.02], **more}


def evaluated(networks: list[dict], name: str = "pgd-50-10", **more) -> dict:
    attack = {"name": name, "threat": THREAT, "images": 200}
    if not name.startswith("pgd"):
        attack["pgd"] = {"name": "pgd-50-10"}
    names = {key for row in networks for key in row} - {"file", "interval", "norms", "reasons"}
    means = {
        key: {"mean": statistics.fmean(row[key] for row in networks if key in row)}
        for key in names - {"verdict", "checks"}
    }
    return {
        "attack": attack,
        "dataset": "digits",
        "networks": networks,
        "summary": {"count": len(networks), **means},
        **more,
    }


def test_names_stand_left_and_figures_right_of_columns_as_wide_as_their_widest_cell():
    table = Table(("name", "a"), [("x", "1.00"), ("longest", "-")], ["a note"], {"x": "a word"})
    assert str(table).split("\n") == [
        "name        a",
        "x        1.00",
        "longest     -",
        "a note",
        "  x  a word",
    ]


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError):
        str(Table(("name", "a"), [("x",)]))


def test_a_figure_has_a_leading_zero_and_a_missing_one_is_a_dash():
    assert percent(0.002, 1) == "0.2" and percent(1.0) == "100.00" and percent(None) == "-"
    assert mean_and_std({"count": 3, "mean": 0.988, "std": 0.002}) == "98.8 +- 0.2"
    assert mean_and_std({"count": 1, "mean": 0.988, "std": 0.0}) == "98.8"
    assert mean_and_std(None) == "-"


@pytest.mark.parametrize("length", [1, 40, 41, 200])
def test_a_path_keeps_its_end(length):
    file = "".join(str(i % 10) for i in range(length))
    shown = short(file)
    assert len(shown) == min(length, 40) and file.endswith(shown.removeprefix("..."))


def test_the_caption_says_data_set_norm_epsilon_attack_and_images():
    result = evaluated([network("a", 0.9, 0.5)])
    assert caption(result) == "digits, linf, epsilon 0.1, pgd-50-10 on 200 test images"


# hypergen evaluate


def test_an_evaluation_shows_every_network_and_the_mean():
    rows = [network("a", 0.91234, 0.5, sra=0.45), network("b", 0.8, 0.6, sra=0.39)]
    result = evaluated(rows, "standard")
    head, *lines = str(evaluation_table(result)).split("\n")
    assert cells(head) == ["network", "accuracy", "pgd", "sra"]
    for line, row in zip(lines, rows, strict=False):
        shown = [row["accuracy"], row["pgd"], row["sra"]]
        assert cells(line)[0] == row["file"] and figures(line) == within_rounding(shown)
    mean = [result["summary"][key]["mean"] for key in ("accuracy", "pgd", "sra")]
    assert figures(lines[2]) == within_rounding(mean)
    assert lines[3] == (
        "% of images; digits test, accuracy on all, attacks on the first 200; linf, epsilon 0.1, "
        "standard, beside pgd-50-10"
    )
    open_by = max(abs(end - row["robustness"]) for row in rows for end in row["interval"])
    assert f"each network's sra open by up to {100 * open_by:.1f} points (95 %)" in lines[4]


def test_one_network_has_no_mean_and_pgd_alone_flatters():
    head, *lines = str(evaluation_table(evaluated([network("a", 0.9, 0.5)]))).split("\n")
    assert cells(head) == ["network", "accuracy", "pgd"]
    assert not any(line.startswith("mean") for line in lines)
    assert lines[-1].startswith("PGD alone flatters")


@pytest.mark.parametrize("robustness", [0.4, 0.6])
def test_an_attack_that_is_weaker_than_pgd_is_called_so(robustness):
    row = network("a", 0.9, 0.5) | {"robustness": robustness}
    text = str(evaluation_table(evaluated([row], "fgsm")))
    assert ("fgsm is weaker here than PGD" in text) == (robustness > 0.5)


def test_networks_that_act_as_one_stand_below():
    ensemble = {
        "voting": network("", 0.95, 0.7) | {"robustness": 0.61},
        "random_member": {"accuracy": 0.85, "robustness": 0.66},
    }
    rows = [network("a", 0.9, 0.5), network("b", 0.8, 0.6)]
    lines = str(evaluation_table(evaluated(rows, "fgsm", ensemble=ensemble))).split("\n")
    voting, member = lines[4:6]
    assert cells(voting) == ["voting", "95.00", "70.00", "61.00"]
    assert cells(member) == ["random member", "85.00", "66.00", "-"]  # by PGD alone


def test_sanity_checks_stand_below_with_their_reasons():
    rows = [
        network("a", 0.9, 0.5, verdict="masked", reasons=["no slope", "flat"], checks={"x": 1}),
        network("b", 0.9, 0.5, verdict="plausible", reasons=[], checks={"x": 1, "y": 2}),
    ]
    text = str(evaluation_table(evaluated(rows)))
    assert "\na: masked (no slope; flat)\nb: plausible (all 2 checks)\n" in text


def test_several_norms_and_their_union():
    norms = [{"linf": 0.5, "l2": 0.3}, {"linf": 0.7, "l2": 0.4}]
    rows = [network("ab"[i], 0.9, by["linf"], norms=by, union=0.25) for i, by in enumerate(norms)]
    result = evaluated(rows)
    result["attack"]["others"] = [{"threat": {"norm": "l2", "epsilon": 1.5}}]
    head, line, _, mean, *notes = str(evaluation_table(result)).split("\n")
    assert cells(head) == ["network", "accuracy", "pgd linf", "pgd l2", "union"]
    assert figures(line) == within_rounding([0.9, 0.5, 0.3, 0.25])
    assert figures(mean) == within_rounding([0.9, 0.6, 0.35, 0.25])
    assert "union: robust in every norm at once: linf, epsilon 0.1, l2, epsilon 1.5" in notes


def test_inputs_outside_a_dictionary_have_a_column_where_there_are_kafs():
    rows = [network("kaf", 0.9, 0.5, outside_dictionary=0.017), network("relu", 0.9, 0.5)]
    table = evaluation_table(evaluated(rows))
    head, kaf, relu, *_ = str(table).split("\n")
    assert cells(head)[-1] == "outside" and OUTSIDE in table.notes
    assert cells(kaf)[-1] == "1.70" and cells(relu)[-1] == "-"
    assert OUTSIDE not in evaluation_table(evaluated(rows[1:])).notes


# hypergen transfer, sample and sweep


def test_transfer_shows_what_fools_and_what_is_fooled():
    fooling = [[0.9, 0.3, 0.1], [0.2, 0.8, 0.4], [0.05, 0.15, 0.7]]
    result = {
        "attack": {"name": "pgd", "threat": THREAT, "images": 50},
        "dataset": "digits",
        "networks": [
            {"file": name, "accuracy": a} for name, a in (("a", 0.9), ("b", 0.8), ("c", 0.7))
        ],
        "fooling": fooling,
    }
    head, *lines = str(transfer_table(result)).split("\n")
    assert cells(head) == ["network", "accuracy", "by own", "to others", "by others"]
    expected = [[0.9, 0.9, 0.2, 0.125], [0.8, 0.8, 0.3, 0.225], [0.7, 0.7, 0.1, 0.25]]
    expected.append([statistics.fmean(column) for column in zip(*expected, strict=True)])
    for name, line, row in zip(["a", "b", "c", "mean"], lines, expected, strict=False):
        assert cells(line)[0] == name and figures(line) == within_rounding(row)
    assert "first 50 images" in lines[4] and lines[5] == caption(result)


def test_estimates_show_what_is_measured_and_what_is_not():
    rows = [
        {"file": name, "accuracy": a, "estimated": {"accuracy": 0.5, "robustness": r, "size": 0.25}}
        for name, a, r in (("a", 0.9, 0.6), ("b", 0.8, 0.7))
    ]
    head, *lines = str(estimates_table(rows, "digits")).split("\n")
    assert cells(head) == ["network", "accuracy", "robustness, estimated", "size, estimated"]
    for line, row in zip(lines, rows, strict=False):
        assert figures(line) == within_rounding(
            [row["accuracy"], row["estimated"]["robustness"], 0.25]
        )
    assert "estimated by the value network" in lines[2] and "sample --keep N" in lines[3]


def test_a_caption_says_which_images():
    attack = {"threat": {"norm": "linf", "epsilon": 0.1}, "name": "pgd-50-1", "images": 20}
    for own, words in (({}, "test"), ({"split": "test"}, "test"), ({"split": "val"}, "validation")):
        title = caption({"dataset": "digits", "attack": attack | own})
        assert title == f"digits, linf, epsilon 0.1, pgd-50-1 on 20 {words} images"
