"""The pages of sweeps, searches, analyses and comparisons, read back."""

import json

import pytest

from hypergen.report.comparison import comparison_table
from hypergen.report.fronts import front_table, search_table
from hypergen.report.names import tails
from hypergen.report.page.analyses import analysis_page
from hypergen.report.page.comparison import comparison_page
from hypergen.report.page.html import html
from hypergen.report.page.search import search_page
from hypergen.report.page.sweep import sweep_page
from hypergen.report.tables import NAME_LENGTH
from tests.hypergen.report.pages import EVIL, Cells, found_in_run, picture

ATTACK = {"name": "standard", "threat": {"norm": "l2", "epsilon": 0.5}, "images": 50}


def percents(shares) -> list[float]:
    return [100 * share for share in shares]


def test_the_page_of_a_sweep_shows_its_front_and_all_trials():
    trials = [
        {"kind": "front", "accuracy": 0.9, "robustness": 0.7, "beta": 0.6},
        {"kind": "dominated", "accuracy": 0.8, "robustness": 0.6, "beta": 0.5},
        {"kind": "front", "accuracy": 0.95, "robustness": 0.5, "beta": 0.2},
    ]
    tests = {"accuracy": 0.89, "robustness": 0.68}, None, {"accuracy": 0.93, "robustness": 0.52}
    for place, (row, test) in enumerate(zip(trials, tests, strict=True)):
        row |= {"run": f"{EVIL}/trial-{place}", "test": test}
    result = {
        "trials": trials,
        "pruned": [{"run": "trial-9", "rung": 0.25}],
        "measures": ["accuracy", "robustness"],
        "varied": ["beta"],
        "dataset": "digits",
        "images": {"val": 300, "test": 1000},
        "report": {"samples": 8, "images": 300, "sra_samples": 2, "sra_images": 50},
        "failed": {"trial-5": "it broke"},
        "hypervolume": {"history": [0.2, 0.5, 0.6], "test": 0.58},
        "importance": {"accuracy": {"beta": 0.8}, "robustness": {"beta": 0.7}},
    }
    page = sweep_page("sweep", result, {"target": "mlp"}, picture())
    read = Cells(html(page))
    assert read.json("results") == json.loads(json.dumps(result))
    assert read.tables[0][1:] == [list(row) for row in front_table(result).rows]
    assert page.verdict == (
        "On test images the front of 2 trials reaches accuracy 89.0 to 93.0 % and robustness 52.0 "
        "to 68.0 %."
    )
    points, bars, history = read.json("charts")
    by_name = {trace["name"]: trace for trace in points["traces"]}
    assert by_name["front, test images"]["x"] == percents([0.68, 0.52])
    assert by_name["dominated, validation images"]["y"] == percents([0.8])
    assert [trace["x"] for trace in bars["traces"]] == [percents([0.8]), percents([0.7])]
    assert history["traces"][0]["y"] == percents([0.2, 0.5, 0.6])
    assert len(read.loaded) == 2 and "it broke" in html(page)


def test_a_sweep_without_trials_has_a_page():
    result = {
        "trials": [],
        "pruned": [],
        "measures": ["accuracy", "robustness"],
        "varied": ["beta"],
        "dataset": "digits",
        "images": {"val": 300, "test": 1000},
        "report": {"samples": 8, "images": 300, "sra_samples": 0, "sra_images": 50},
        "failed": {},
        "hypervolume": {"history": [], "test": None},
        "importance": {"accuracy": {}, "robustness": {}},
    }
    assert "No trial has finished yet." in html(sweep_page("sweep", result, {}, None))


def test_the_page_of_a_search_shows_test_beside_validation_images():
    def row(place: int, accuracy: float, sra: float):
        return {
            "file": f"sample-{place:04d}.safetensors",
            "beta": 0.5,
            "accuracy": accuracy,
            "sra": sra,
            "interval": [sra - 0.1, sra + 0.1],
            "after": {"apgd-ce": sra + 0.1, "square": sra},
            "val": {"accuracy": accuracy + 0.01, "sra": sra + 0.02},
        }

    measured = [
        {
            "beta": 0.1 * place,
            "estimated": {"accuracy": 0.9, "robustness": 0.1 * place},
            "measured": {"accuracy": 0.8, "robustness": 0.2 * place},
        }
        for place in range(3)
    ]
    result = {
        "dataset": "digits",
        "attack": ATTACK,
        "search": {"candidates": 30, "method": "gradient"},
        "figures": ["accuracy", "sra"],
        "networks": [row(0, 0.9, 0.7), row(1, 0.95, 0.6)],
        "hypervolume": {"val": 0.7, "test": 0.66},
        "measured": measured,
    }
    page = search_page("search", result)
    read = Cells(html(page))
    assert read.json("results") == json.loads(json.dumps(result))
    assert read.tables[0][1:] == [list(each) for each in search_table(result).rows]
    scatter, after, accuracy, robustness = read.json("charts")
    shown = {trace["name"]: trace["x"] for trace in scatter["traces"]}
    assert shown == {
        "test images": percents([0.7, 0.6]),
        "validation images": pytest.approx(percents([0.72, 0.62])),
    }
    assert [trace["y"][-1] for trace in after["traces"]] == percents([0.7, 0.6])
    assert accuracy["traces"][1]["y"] == percents([0.9] * 3)
    assert robustness["traces"][1]["x"] == percents([0.0, 0.2, 0.4])
    assert page.verdict == (
        "On test images sample-0001.safetensors (accuracy 95.0 % and SRA 60.0 %) is best in "
        "accuracy; sample-0000.safetensors (accuracy 90.0 % and SRA 70.0 %) is best in SRA."
    )


def test_the_page_of_analyses_has_their_pictures_and_tables(run_result):
    found = found_in_run(run_result).analyses
    assert found is not None
    read = Cells(html(analysis_page("analysis", found)))
    assert len(read.loaded) == 2
    assert read.tables[0][1][0] == "sample" and "1.5" in read.tables[0][1]


def group(path: str, shares, **others):
    """A group of networks as a comparison has it."""
    rows = [
        {"file": f"{path}/{n}", "accuracy": a, "robustness": r, "interval": [r - 0.1, r + 0.1]}
        for n, (a, r) in enumerate(shares)
    ]
    summary = {
        name: {"mean": rows[0][name], "std": 0.0, "count": len(rows)}
        for name in ("accuracy", "robustness")
    }
    summary["pgd"] = summary["robustness"]
    known = {"path": path, "networks": rows, "summary": summary, "hypervolume": 0.5}
    return known | {"disagreement": 0.01} | others


def test_groups_with_long_paths_of_one_ending_are_told_apart():
    ending = "/".join(["deep"] * NAME_LENGTH)
    result = {
        "attack": ATTACK | {"pgd": {"name": "pgd-50-1"}},
        "dataset": "digits",
        "groups": [group(f"{first}/{ending}", [(0.9, 0.5)]) for first in ("one", "two")],
        "settings": {"beta": [0.5, 0.7]},
    }
    result["groups"][1]["differences"] = {}
    page = comparison_page(result, {})
    names = [f"one/{ending}", f"two/{ending}"]
    assert [card.name for card in page.cards] == names and page.title == " and ".join(names)
    assert page.verdict == f"Compared with {names[0]}, {names[1]} is no different in either."
    table, networks, settings = page.tables
    assert [row[0] for row in table.rows] == [row[1] for row in networks.rows] == names
    assert [*settings.headers[1:]] == names


def test_the_page_of_a_comparison_tells_what_differs():
    apart = {
        "accuracy": {"mean": 0.05, "low": 0.01, "high": 0.09},
        "robustness": {"mean": 0.02, "low": -0.1, "high": 0.14},
    }
    result = {
        "attack": ATTACK | {"pgd": {"name": "pgd-50-1"}},
        "dataset": "digits",
        "groups": [
            group("a", [(0.9, 0.5), (0.9, 0.5)]),
            group(EVIL, [(0.95, 0.52)], differences=apart),
        ],
        "settings": {"beta": [0.5, 0.7]},
    }
    page = comparison_page(result, {"a": "it is good"})
    name = tails(["a", EVIL])[EVIL]
    read = Cells(html(page))
    assert read.json("results") == json.loads(json.dumps(result))
    expected = [[c.replace("+-", "±") for c in row] for row in comparison_table(result).rows]
    assert read.tables[0][1:] == expected
    assert page.verdict == (
        f"Compared with a, {name} is better in accuracy (+5.0 points, 95 % interval +1.0 to +9.0)."
    )
    assert ["beta", "0.5", "0.7"] in read.tables[2] and ["a", "it is good"] in read.tables[3]
    assert set(read.scripts) == {"results", "charts", "plotly", "code"}
