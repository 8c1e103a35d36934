"""The study of measuring where the value network is least sure."""

from dataclasses import replace

import pytest

from hypergen.catalog import MEASURES
from scripts.studies import active


@pytest.fixture
def config(tmp_path) -> active.ActiveConfig:
    train = active.QUICK.train.replace(base=None, steps=3, batch_size=8)
    return replace(
        active.QUICK,
        train=train,
        samples=2,
        images=20,
        work=tmp_path / "work",
        out=tmp_path / "active.json",
    )


def test_half_is_measured_where_v_is_unsure(config, written):
    active.main(replace(config, only=("active",)))
    ((row,),) = written(config.out)["ways"].values()
    assert row["asked"] == 6  # of four networks and a copy, two in each of three steps
    assert "box" not in MEASURES.names()


@pytest.mark.slow
def test_half_is_measured_where_v_is_unsure_or_by_chance(config, written):
    active.main(config)
    found = written(config.out)["ways"]
    # Four networks and a copy in each of three steps, or two of these five.
    assert {way: rows[0]["asked"] for way, rows in found.items()} == {
        "none": 0,
        "all": 15,
        "active": 6,
        "random": 6,
    }
    for (row,) in found.values():
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["box"] <= 1
    lines = str(active.table(found)).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == list(active.WAYS)
    assert "box" not in MEASURES.names()
    before = {path: path.stat().st_mtime_ns for path in config.work.rglob("*-0.json")}
    active.main(config)  # from what was kept
    assert {path: path.stat().st_mtime_ns for path in before} == before
