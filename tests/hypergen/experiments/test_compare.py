"""The report of a run: samples beside directly trained networks."""

import json
from dataclasses import replace

import pytest

from hypergen.evaluation.statistics import measuring_error
from hypergen.experiments.base import direct_recipe
from hypergen.experiments.baseline import train_baselines
from hypergen.experiments.compare import report, training_taus
from hypergen.experiments.competitors import FBF_COUNT, NOISY_COUNT
from hypergen.experiments.run import load_generator
from hypergen.experiments.run_folder import ReportConfig
from hypergen.runtime.sessions import Sessions

NAMES = "accuracy", "robustness"
EPSILON = 0.02
"""At which networks that have hardly been trained are right about some images."""


@pytest.fixture(scope="module")
def recipes(ranged_run, few, tmp_path_factory):
    """One ordinary, three FBF and one PGD-trained network, of a few epochs each."""
    import torch

    folder, config = tmp_path_factory.mktemp("baselines"), ranged_run.settings.config
    config = config.replace(epsilon=EPSILON)
    made = {
        folder / f"{method}-{seed}.safetensors": replace(
            direct_recipe(config, method, seed), epochs=8
        )
        for method, count in (("pgd", 1), ("fbf", FBF_COUNT), ("standard", 1))
        for seed in range(count)
    }
    train_baselines(made, few, torch.device("cpu"))
    return made


@pytest.fixture
def folder(ranged_run, tmp_path):
    """A folder for another report of the run."""
    ranged_run.settings.save(tmp_path)
    return tmp_path


def test_the_report_compares_with_direct_training(ranged_run, recipes, few, folder):
    sizes = ReportConfig(samples=2, images=20, sra_samples=1, sra_images=5)
    sampler = load_generator(ranged_run.folder, few)
    sampler.config = sampler.config.replace(epsilon=EPSILON)
    result = report(folder, sampler, few, sizes, recipes, Sessions(few.device))
    counts = {kind: summary["count"] for kind, summary in result["summary"].items()}
    assert counts == {
        "sample": 2,
        "start": 1,
        "standard": 1,
        "fbf": FBF_COUNT,
        "pgd": 1,
        "fbf + noise": NOISY_COUNT,
        "fbf average": 1,
        "2 sample voting": 1,
        "3 fbf voting": 1,
    }
    for kind, summary in result["summary"].items():
        assert ("sra" not in summary) if "voting" in kind else summary["sra"]["count"] == 1
    for row in result["networks"]:  # on the same images SRA is never above PGD
        assert "sra" not in row or row["sra"] <= row["pgd_on_sra_images"]
    for figure in ("disagreement", "error_overlap"):
        assert {"sample", "fbf", "fbf + noise"} == set(result[figure])
        assert all(0 <= value <= 1 for value in result[figure].values())
    assert result["value_network"].keys() == {"accuracy", "robustness"}
    for name, images in (("accuracy", len(few.test)), ("robustness", 20)):
        shares = [row[name] for row in result["networks"] if row["kind"] == "sample"]
        known = measuring_error(shares, images)
        assert result["value_network"][name]["measuring_error"] == pytest.approx(known)
    for name in ("accuracy", "pgd", "sra"):
        errors = result["image_errors"][name]
        one_by_one = {"sample"} if name != "sra" else set()  # of which there is a single one
        assert errors.keys() - one_by_one == {
            "start",
            "standard",
            "fbf",
            "pgd",
            "fbf + noise",
            "fbf average",
        }
        assert all(error > 0 for error in errors.values())
    known = result["value_network"]
    assert known["accuracy"]["ranking_error"] == result["image_errors"]["accuracy"]["sample"]
    assert known["robustness"]["ranking_error"] == result["image_errors"]["pgd"]["sample"]
    assert result["baselines"] and result["report"]["sra_images"] == 5
    assert result["sra"] == {"images": 5, "name": "standard"}
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(result))


def test_without_fbf_the_report_does_without_it(ranged_run, recipes, few, folder):
    """As in l1."""
    others = {path: recipe for path, recipe in recipes.items() if recipe.method != "fbf"}
    sampler = load_generator(ranged_run.folder, few)
    result = report(folder, sampler, few, ReportConfig(2, 10, 0), others, Sessions(few.device))
    assert set(result["summary"]) == {"sample", "start", "standard", "pgd", "2 sample voting"}


def test_kendalls_tau_over_the_training(tmp_path):
    assert training_taus(tmp_path, NAMES) == {}
    lines = [
        {"step": 0, "measured/accuracy": 0.1, "estimated/accuracy": 0.3, "loss": 1.0},
        {"step": 1, "loss": 1.0},
        {"step": 2, "measured/accuracy": 0.2, "estimated/accuracy": 0.4, "loss": 1.0},
        {"step": 3, "measured/accuracy": 0.3, "estimated/accuracy": 0.35, "loss": 1.0},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = training_taus(tmp_path, NAMES)
    assert found == {"accuracy": pytest.approx(1 / 3)}  # 2 of 3 pairs in order
    with path.open("ab") as file:  # as a kill or a stranger leaves it
        file.write(
            b'[1]\n{"estimated/accuracy": "x", "measured/accuracy": 1}\n\xff\n{"step": 4, "lo'
        )
    assert training_taus(tmp_path, NAMES) == {"accuracy": pytest.approx(1 / 3)}
