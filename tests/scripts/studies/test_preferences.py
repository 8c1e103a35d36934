"""The study of one generator for many preferences."""

from dataclasses import replace

import pytest

from hypergen.errors import InputError
from hypergen.experiments.run_folder import RunSettings
from hypergen.measure_spec import MeasureSpec
from scripts.common import device, load
from scripts.studies import preferences


def test_the_grid_is_the_whole_simplex():
    found = list(preferences.grid(3, 5))
    assert len(found) == len(set(found)) == 21
    assert all(sum(weights) == pytest.approx(1) for weights in found)
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1)} < set(found)
    assert list(preferences.grid(2, 1)) == [(0, 1), (1, 0)]


def test_the_correlation_is_of_ranks():
    asked = [{"a": weight, "b": 1 - weight} for weight in (0.0, 0.2, 1.0)]
    got = [{"a": 0.1, "b": 0.5}, {"a": 0.2, "b": 0.6}, {"a": 0.25, "b": 0.4}]
    rows = [{"asked": a, "got": g} for a, g in zip(asked, got, strict=True)]
    assert preferences.correlations(rows) == {"a": pytest.approx(1), "b": pytest.approx(0.5)}
    alike = [{"asked": a, "got": {"a": 0.5, "b": 0.5}} for a in asked]
    assert preferences.correlations(alike) == {"a": 0, "b": 0}


@pytest.fixture
def config(tmp_path) -> preferences.PreferencesConfig:
    return replace(
        preferences.QUICK,
        train=preferences.QUICK.train.replace(steps=3, batch_size=8),
        images=10,
        work=tmp_path / "work",
        out=tmp_path / "preferences.json",
    )


def test_a_generator_alone_is_trained_for_what_is_asked(config):
    config = replace(config, alone=True)
    dataset = load(config.train.data, device())
    sampler = preferences.trained_alone(config, dataset, (0.5, 0, 0.5))
    settings = RunSettings.load(config.work / "generator-0.5-0-0.5").config
    specs = map(MeasureSpec.parse, settings.objective.measures)
    weights = {spec.name: spec.low for spec in specs if not spec.is_ranged}
    assert weights == {"accuracy": 0.5, "robustness": 0, "int8:bits=2": 0.5}
    assert [measure.name for measure in sampler.measures] == list(weights)


def test_every_preference_is_judged_once(config, written):
    preferences.main(config)
    found = written(config.out)
    assert len(found["rows"]) == 6 and len(found["spearman"]) == 3
    for row in found["rows"]:
        assert sum(row["asked"].values()) == 1 and all(0 <= v <= 1 for v in row["got"].values())
    kept = {path: path.stat().st_mtime_ns for path in config.work.glob("0*.json")}
    preferences.main(config)
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == kept
    fixed = config.train.replace(measure=("accuracy=1", "robustness=1"))
    with pytest.raises(InputError, match="ranges of weights"):
        preferences.main(replace(config, train=fixed))
