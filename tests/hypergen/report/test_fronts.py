"""Tables of trade-offs."""

import re

import pytest

from hypergen.report.fronts import curve_table, front_table, search_table

ATTACK = {"threat": {"norm": "linf", "epsilon": 0.1}, "name": "standard", "images": 20}


def cells(line: str) -> list[str]:
    """The cells of a line of text: two spaces at least stand between them."""
    return re.split(r"  +", line.strip())


@pytest.mark.parametrize("sra_samples", [0, 2, 9])
def test_the_front_of_a_sweep_leaves_out_what_is_dominated(sra_samples):
    run = "runs/" + "long" * 20
    trials = [
        {"kind": "front", "run": run, "accuracy": 0.9, "robustness": 0.7, "beta": 0.123456},
        {"kind": "dominated", "run": "no", "accuracy": 0.8, "robustness": 0.6, "beta": 0.5},
        {"kind": "front", "run": "b", "accuracy": 0.95, "robustness": 0.5, "beta": 0.25},
    ]
    trials[0]["test"], trials[1]["test"], trials[2]["test"] = (
        {"accuracy": 0.89, "robustness": 0.66},
        None,
        {"accuracy": 0.94, "robustness": 0.51},
    )
    for row in trials:
        row["activation"] = "relu"
    result = {"trials": trials, "varied": ["beta", "activation"], "dataset": "digits"}
    result["measures"] = ["accuracy", "robustness"]
    result["report"] = {
        "samples": 8,
        "images": 300,
        "sra_samples": sra_samples,
        "sra_images": 50,
    }
    result["images"] = {"val": 300, "test": 1000}
    result["hypervolume"] = {"history": [0.1, 0.6], "test": 0.58}
    result["pruned"] = []
    head, *lines = str(front_table(result)).split("\n")
    validation = ["accuracy (val)", "robustness (val)"]
    assert cells(head) == ["run", "accuracy", "robustness", *validation, "beta", "activation"]
    assert cells(lines[0]) == [run, "89.00", "66.00", "90.00", "70.00", "0.1235", "relu"]
    assert cells(lines[1]) == ["b", "94.00", "51.00", "95.00", "50.00", "0.25", "relu"]
    assert lines[2] == (
        "the front of 3 trials, % of digits images: chosen by validation images (val), then judged "
        "on test images"
    )
    judged = "PGD-50 alone, which flatters, 8 samples on 300 images"
    if sra_samples:
        judged = f"standard robust accuracy, {min(sra_samples, 8)} samples on 50 images"
    assert lines[3] == f"accuracy: 8 samples on all; robustness: {judged}"
    assert lines[4].startswith("hypervolume 0.5800 on test images, 0.6000 on validation images: ")
    assert len(lines) == 5
    trials[2]["test"] = None
    result["hypervolume"]["test"] = None
    *_, row, _, _, note = str(front_table(result)).split("\n")
    assert cells(row) == ["b", "-", "-", "95.00", "50.00", "0.25", "relu"]
    assert note == "- not judged on test images by this sweep"
    result["pruned"] = [{"rung": rung} for rung in (0.5, 0.25, 0.5)]
    *_, front, _, note, _ = str(front_table(result)).split("\n")
    assert front.startswith("the front of 6 trials")
    assert note == "3 of them were pruned: 1 after 25 %, 2 after 50 % of their steps"
    result["pruned"] = [{"rung": 0.25}, {"rung": None}]  # by another, who did not say when
    *_, note, _ = str(front_table(result)).split("\n")
    assert note == "2 of them were pruned: 1 after 25 %, 1 after an unknown part of their steps"


def test_the_front_of_a_sweep_names_its_measures():
    own = {"accuracy": 0.9, "int8:bits=4": 0.8, "smoothness": 0.7}
    row = {"kind": "front", "run": "a", "test": own, "measure.smoothness": 0.25}
    result = {
        "pruned": [],
        "trials": [row | {name: figure + 0.05 for name, figure in own.items()}],
        "measures": [*own],
        "varied": ["measure.smoothness"],
        "dataset": "digits",
        "images": {"val": 150, "test": 200},
        "report": {"samples": 8, "images": 300, "sra_samples": 2, "sra_images": 50},
        "hypervolume": {"history": [0.5], "test": None},
    }
    head, line, _, note = str(front_table(result)).split("\n")
    validation = [f"{name} (val)" for name in own]
    assert cells(head) == ["run", *own, *validation, "measure.smoothness"]
    shown = ["a", "90.00", "80.00", "70.00", "95.00", "85.00", "75.00", "0.25"]
    assert cells(line) == shown
    assert note == (
        "accuracy: 8 samples on all; int8:bits=4, smoothness: 8 samples on 150 val and 200 test "
        "images"
    )


def test_a_curve_has_a_row_for_each_beta():
    def point(beta: float, mean: float, interval) -> dict:
        figure = {"mean": mean, "interval": interval}
        return {"beta": beta, "count": 2, "accuracy": figure, "pgd": figure, "sra": figure}

    curve = [point(0.0, 0.95, None), point(0.5, 0.9, [0.75, 1.05])]
    result = {"dataset": "digits", "attack": ATTACK, "curve": curve, "hypervolume": 0.81234}
    head, first, second, *notes = str(curve_table(result)).split("\n")
    assert cells(head) == ["beta", "networks", "accuracy", "pgd", "sra"]
    assert cells(first) == ["0", "2", "95.0", "95.0", "95.0"]
    assert cells(second) == ["0.5", "2", *["90.0 (75.0 to 100.0)"] * 3]
    assert "attacks on the first 20; linf, epsilon 0.1" in notes[1]
    assert notes[2].startswith("hypervolume 0.8123: ")
    for each in curve:
        del each["pgd"], each["sra"]
    head, *_, note = str(curve_table(result | {"attack": None})).split("\n")
    assert cells(head) == ["beta", "networks", "accuracy"] and "--keep N" in note


def test_what_a_search_found_stands_beside_what_it_was_chosen_by():
    def row(file: str, accuracy: float, **asked) -> dict:
        val = {"accuracy": accuracy + 0.01, "sra": 0.62}
        return {"file": file, "accuracy": accuracy, "sra": 0.6, "val": val, **asked}

    result = {
        "dataset": "digits",
        "attack": ATTACK,
        "figures": ["accuracy", "sra"],
        "search": {"candidates": 90, "method": "nsga2"},
        "networks": [
            row("a", 0.8, beta=0.123456),
            row("b", 0.9, preference={"accuracy": 0.25, "int8": 0.75}),
        ],
        "measured": [{}] * 7,
        "hypervolume": {"val": 0.5, "test": 0.45},
    }
    head, first, second, *notes = str(search_table(result)).split("\n")
    assert cells(head)[2:] == ["accuracy", "sra", "accuracy (val)", "sra (val)"]
    assert cells(first) == ["b", "0.25, 0.75", "90.0", "60.0", "91.0", "62.0"]
    assert cells(second) == ["a", "beta 0.1235", "80.0", "60.0", "81.0", "62.0"]
    assert "the front of 7 networks, which the value network thought best of 90 (nsga2)" in notes[1]
    assert notes[2] == "validation less test images, points: accuracy +1.0, sra +2.0"
    assert notes[3].startswith("hypervolume 0.4500 on test images, 0.5000 on validation images")
