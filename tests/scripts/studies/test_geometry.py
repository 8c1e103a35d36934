"""The study of geometry: what is summed up, and of which networks."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import t

from scripts.studies import geometry

FOUND = {
    "title": "length",
    "figures": {"length": "of all weights", "other": "known of few"},
    "rows": [
        {"group": "sample", "length": 1.0, "other": None},
        {"group": "sample", "length": 3.0, "other": 5.0},
        {"group": "fbf", "length": 4.0},
        {"group": "fbf", "length": 8.0},
        {"group": "pgd", "length": 7.0},
    ],
    "skipped": {},
    "failed": {},
}


def test_the_difference_has_the_interval_of_welch():
    found = geometry.difference([1.0, 3.0], [4.0, 8.0])
    error = (2 / 2 + 8 / 2) ** 0.5
    freedom = (2 / 2 + 8 / 2) ** 2 / ((2 / 2) ** 2 + (8 / 2) ** 2)
    reach = float(t.ppf(0.975, freedom)) * error
    assert found == {
        "mean": 4.0,
        "low": pytest.approx(4 - reach),
        "high": pytest.approx(4 + reach),
    }


def test_one_network_leaves_no_interval():
    assert geometry.difference([1.0, 3.0], [4.0]) is None
    assert geometry.difference([1.0, 1.0], [4.0, 4.0]) is None


def test_figures_are_summed_up_by_group():
    figures = geometry.summed_up(FOUND, ["sample", "fbf", "pgd"])["figures"]
    assert figures["length"]["sample"] == {
        "count": 2,
        "mean": 2.0,
        "std": pytest.approx(2**0.5),
        "above": None,
    }
    assert figures["length"]["fbf"]["above"]["mean"] == 4.0
    assert figures["length"]["pgd"] == {"count": 1, "mean": 7.0, "std": None, "above": None}
    assert figures["other"].keys() == {"sample"}


def test_networks_of_every_method_are_looked_at(tmp_path, written, monkeypatch):
    made, looked = [], []

    def train(settings, dataset, folder, *_):
        folder.mkdir(parents=True)
        replace(settings, config=settings.config.replace(steps=5)).save(folder)

    def look(paths, options, out, *_):
        looked.append((paths, options, out))
        groups = [{"name": name} for name in ("sample", "fbf", "pgd")]
        return {"groups": groups, "attack": {}, "analyses": {"size": FOUND}}

    monkeypatch.setattr(geometry, "train", train)
    monkeypatch.setattr(
        geometry, "trained", lambda path, recipe, *_: made.append((path, recipe.method))
    )
    monkeypatch.setattr(geometry, "analyze_files", look)
    config = replace(geometry.QUICK, work=tmp_path / "work", out=tmp_path / "found.json")
    geometry.main(config)
    folder = Path(config.work / "run")
    assert made == [
        (folder / "baselines" / f"{method}-{seed}.safetensors", method)
        for method in ("standard", "fbf", "pgd")
        for seed in (0, 1)
    ]
    assert looked == [([folder], config.analysis, config.work)]
    assert written(config.out)["analyses"]["size"]["figures"]["length"]["pgd"]["mean"] == 7.0
