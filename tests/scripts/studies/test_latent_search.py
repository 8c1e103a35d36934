"""The study of searches of the latent space."""

from dataclasses import replace

from scripts.studies import latent_search


def test_a_mean_is_beaten_by_a_point_above_it():
    front = [[0.9, 0.5], [0.8, 0.6]]
    means = [[0.9, 0.4], [0.85, 0.55], [0.8, 0.6], [0.95, 0.1]]
    assert latent_search.dominated(means, front) == 2


def test_each_way_of_searching(tmp_path, written):
    config = replace(
        latent_search.QUICK,
        train=latent_search.QUICK.train.replace(target="mlp", image_size=8, steps=3, batch_size=8),
        candidates=12,
        budget=2,
        images=6,
        betas=(0.0, 1.0),
        work=tmp_path / "work",
        out=tmp_path / "found.json",
        only=("gradient", "random", "drawn 1", "drawn 3"),
    )
    latent_search.main(config)
    found = written(config.out)
    measured = {way: [each["measured"] for each in own] for way, own in found["searches"].items()}
    assert measured == {"gradient": [2], "random": [2], "drawn 1": [2], "drawn 3": [6]}
    for (own,) in found["searches"].values():
        assert 1 <= len(own["front"]["test"]) == len(own["front"]["val"]) <= own["measured"]
        assert 0 <= own["hypervolume"]["test"] <= 1
    assert len(found["ordinary"]) == 2
    kept = {path: path.stat().st_mtime_ns for path in config.work.glob("*-0.json")}
    latent_search.main(config)
    assert len(kept) > 3 and {path: path.stat().st_mtime_ns for path in kept} == kept
