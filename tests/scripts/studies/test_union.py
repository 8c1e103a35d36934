"""The study of robustness in several norms at once."""

import itertools
from dataclasses import replace

import pytest

from hypergen.config import ObjectiveConfig
from hypergen.errors import InputError
from scripts.studies import union


def test_generators_beside_direct_training(tmp_path, written, monkeypatch):
    """By a clock of its own: each reading is a second after the last."""
    monkeypatch.setattr(union, "spent", itertools.count().__next__)
    config = replace(
        union.QUICK,
        train=union.QUICK.train.replace(steps=2, population=2, batch_size=8),
        norms="linf=0.05,l2=0.5,l1=2",
        samples=1,
        images=4,
        work=tmp_path / "work",
        out=tmp_path / "union.json",
    )
    union.main(config)
    rows = written(config.out)["rows"]
    assert list(rows) == [union.START, *union.GENERATORS, "MSD", "AVG"]
    for (row,) in rows.values():
        assert row["seconds"] == 1
        for network in row["networks"]:
            assert list(network) == ["accuracy", "linf", "l2", "l1", "union"]
            assert 0 <= network["union"] <= min(network["linf"], network["l2"], network["l1"])
    assert rows["MSD"][0]["epochs"] == 1  # which takes more than the two seconds
    lines = str(union.table(rows)).splitlines()
    assert lines[0].split() == ["trained", "by", "accuracy", "linf", "l2", "l1", "union", "seconds"]
    union.main(config)  # from what was kept
    assert written(config.out)["rows"] == rows


def test_what_generators_are_trained_for():
    config = replace(union.QUICK, norms="linf=0.2,l2=1.5,l1=8", weight=0.5)
    asked = [ObjectiveConfig.of(measure=union.measures(config, k)).specs for k in union.GENERATORS]
    assert [[(spec.kind, spec.high) for spec in specs] for specs in asked] == [
        [("accuracy", 0.5), ("union", 0.5)],
        [("accuracy", 0.5), ("robustness", 0.2), ("robustness", 0.3)],
    ]
    assert asked[0][1].options == {"linf": 0.2, "l2": 1.5, "l1": 8}
    assert asked[1][1].options == {"norm": "linf", "epsilon": 0.2}
    assert asked[1][2].options == {"norm": "l1", "epsilon": 8}


def test_equal_time_needs_the_second_generator(tmp_path):
    config = replace(union.QUICK, work=tmp_path, out=tmp_path / "union.json")
    with pytest.raises(InputError, match="needs the time that start, MSD and generator, l1 and"):
        union.main(replace(config, only=("AVG",)))
