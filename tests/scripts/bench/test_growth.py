"""The benchmark of growing populations, on as little as it can run on."""

from dataclasses import replace

import pytest
import torch

from hypergen.errors import InputError
from scripts.bench import growth


def test_speed_of_growing_populations(tmp_path, monkeypatch, written):
    def missing(*args, **options):
        raise InputError("no files")

    monkeypatch.setattr(growth.data, "load", missing)
    # What these import takes longer than all the rest.
    monkeypatch.setattr(growth.Problem, "flops", lambda self: 1000)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(growth, "WARM_UP", 1)
    config = replace(
        growth.QUICK,
        targets=("small-lenet5",),
        compiled=True,
        generator_most=1,
        work=tmp_path / "work",
        out=tmp_path / "growth.json",
    )
    growth.main(config)
    figures = written(config.out)
    found = figures["targets"]["small-lenet5"]
    assert found["images_are"] == "random"
    for way in ("plain", "compiled"):
        assert [row["networks"] for row in found[way]] == [1, 2]
        for row in found[way]:
            done = row["flops_per_second"] * row["seconds"]
            assert done == pytest.approx(1000 * row["networks"])
            assert row["ratio"] * found["loop_networks_per_second"] == pytest.approx(
                row["networks_per_second"]
            )
    (row,) = found["generator"]
    assert row["networks"] == 1 and row["steps_per_second"] > 0
    # A second call times nothing anew.
    monkeypatch.setattr(growth, "timed", None)
    growth.main(config)
    assert written(config.out) == figures


def test_a_population_too_large_ends_its_series(tmp_path):
    def make(count):
        if count == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"seconds": 1.0}

    config = growth.GrowthConfig(work=tmp_path)
    rows = growth.series(config, "name", 64, make)
    assert [row["networks"] for row in rows] == [1, 2, 4]
    assert rows[-1]["failed"] == "OutOfMemoryError: CUDA out of memory"
    # Tried again by the next call, when the GPU may have room.
    assert len(growth.series(config, "name", 4, lambda count: {"seconds": 2.0})) == 3
