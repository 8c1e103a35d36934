"""The study of what can be trained for."""

from dataclasses import replace

from scripts.studies import measures


def test_each_measure_beside_none(tmp_path, written):
    train = measures.QUICK.train.replace(
        target="mlp", image_size=8, base=None, steps=2, population=2, batch_size=8, value_steps=2
    )
    config = replace(
        measures.QUICK,
        train=train,
        measures=("worst-class", "pruned:share=0.5"),
        samples=2,
        images=20,
        work=tmp_path / "work",
        out=tmp_path / "measures.json",
    )
    measures.main(config)
    found = written(config.out)
    assert set(found["measures"]) == set(config.measures)
    for rows in found["measures"].values():
        (row,) = rows
        for kind in ("with", "without"):
            assert all(0 <= share <= 1 for share in row[kind].values())
    lines = str(measures.table(found["measures"])).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == list(config.measures)
    before = {path: path.stat().st_mtime_ns for path in config.work.rglob("*.json")}
    measures.main(config)  # from what was kept
    assert {p: p.stat().st_mtime_ns for p in before if p.name != "settings.json"} == {
        path: at for path, at in before.items() if path.name != "settings.json"
    }
