"""The benchmark of populations, on as little as it can run on."""

import math
from dataclasses import replace

import pytest

from scripts.bench import population


@pytest.mark.slow
def test_a_population_is_attacked_beside_a_loop_over_torchattacks(tmp_path, written, brief_run):
    config = population.BenchConfig(
        dataset="digits",
        networks=3,
        trained=1,
        epochs=4,
        crowd=5,
        images=30,
        steps=3,
        batch_size=16,
        turn=2,
        threads=1,
        out=tmp_path / "results" / "bench.json",
    )
    population.main(config)
    figures = written(config.out)
    robust = figures["robust_accuracy"]
    assert len(robust["hypergen"]) == 3 and len(figures["seconds"]["hypergen"]) == 2
    assert 0 < figures["ratio"] < math.inf
    assert 0.1 < figures["peak_gib"] < 4
    # From the same starts, and an image that any point visited breaks is lost.
    assert figures["never_higher"]
    assert 0 < sum(robust["hypergen"]) <= sum(robust["torchattacks"])
    # Samples of a run are attacked as what they are.
    population.main(replace(config, run=brief_run(tmp_path / "run")))
    figures = written(config.out)
    assert (figures["target"], figures["epsilon"]) == ("mlp", 0.02)
    assert figures["settings"]["networks_are"]["samples_of"]["steps"] == 2
