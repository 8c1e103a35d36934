"""Norms of gradients, of networks small enough for a test."""

import math

from hypergen import data
from scripts.studies import exploding_gradients
from scripts.studies.exploding_gradients import Variant


def test_norms_of_every_layer(tmp_path, written, monkeypatch):
    variants = {
        each.name: each for each in (Variant("mlp", "relu"), Variant("mlp", "kaf", clip=1.0))
    }
    monkeypatch.setattr(exploding_gradients, "VARIANTS", variants)
    config = exploding_gradients.StudyConfig(
        dataset="digits", steps=3, batch_size=8, work=tmp_path / "runs", out=tmp_path / "f.json"
    )
    exploding_gradients.main(config)
    rows = written(config.out)["ways"]
    assert list(rows) == ["mlp relu", "mlp kaf, clipped"]
    for row in rows.values():
        assert row["steps"] == 3 and not row["diverged"] and 0 < row["loss"] < math.inf
        for when in ("first", "worst", "weights"):
            assert list(row[when]) == ["layers.0", "layers.2"] and min(row[when].values()) > 0
        assert max(row["worst"].values()) >= max(row["first"].values()) > 0
    assert (config.work / "mlp-relu").is_dir()  # TensorBoard's events


def test_what_explodes_is_reported(tmp_path):
    config = exploding_gradients.StudyConfig(
        dataset="digits", steps=5, batch_size=8, learning_rate=1e30, work=tmp_path
    )
    row = exploding_gradients.trained(config, Variant("mlp", "relu"), data.load("digits"))
    assert row["diverged"] and row["steps"] < 5 and row["loss"] is None
