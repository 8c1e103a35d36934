"""The study of bounded layers."""

from dataclasses import replace

from scripts.studies import parseval


def test_bounded_kinds_keep_to_their_bound(tmp_path, brief, written):
    train = parseval.QUICK.train.replace(steps=2, population=2, batch_size=8)
    config = replace(
        parseval.QUICK,
        train=train.replace(max_robustness_gap=1.0),
        bounds=(0.5,),
        epochs=1,
        networks=1,
        images=6,
        attack="quick",
        work=tmp_path / "work",
        out=tmp_path / "parseval.json",
    )
    parseval.main(config)
    found = written(config.out)["kinds"]
    assert list(found) == [
        *("standard", "standard bound 0.5", "fbf", "fbf bound 0.5"),
        *("generated", "generated bound 0.5"),
    ]
    for kind, own in found.items():
        assert own["certified"] <= own["accuracy"]
        assert (max(own["largest_norm"]) <= 0.5 * 1.001) == kind.endswith("bound 0.5")
