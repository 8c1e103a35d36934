"""The study of measuring where the value network is least sure."""

from dataclasses import replace

from hypergen.catalog import MEASURES
from scripts.studies import active


def test_half_is_measured_where_v_is_unsure_or_by_chance(tmp_path, written):
    train = active.QUICK.train.replace(base=None, steps=3, batch_size=8)
    config = replace(
        active.QUICK,
        train=train,
        queries=5,
        samples=2,
        images=20,
        work=tmp_path / "work",
        out=tmp_path / "active.json",
    )
    active.main(config)
    found = written(config.out)["ways"]
    # Four networks and a copy in each of three steps, or two of these five.
    assert {way: rows[0]["measured"] for way, rows in found.items()} == {
        "all": 15,
        "active": 6,
        "random": 6,
    }
    for (row,) in found.values():
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["box"] <= 1
    lines = str(active.table(found)).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(active.WAYS)
    assert "box" not in MEASURES.names()
    before = {path: path.stat().st_mtime_ns for path in config.work.rglob("*-0.json")}
    active.main(config)  # from what was kept
    assert {path: path.stat().st_mtime_ns for path in before} == before
