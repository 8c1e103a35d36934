"""Histograms of activations, of networks small enough for a test."""

import pytest

from scripts.studies import activation_distributions
from targets import outside_dictionary


def test_clean_and_attacked_images(tmp_path, written, monkeypatch):
    def outside(network, images):
        layers = outside_dictionary(network, images)  # none but of a KAF
        return {name: 0.25 for name in layers} | dict.fromkeys(list(layers)[1:], 0.1)

    monkeypatch.setattr(activation_distributions, "outside_dictionary", outside)
    config = activation_distributions.StudyConfig(
        dataset="digits",
        epochs=1,
        target="mlp",
        activations=("relu", "kwta-0.2", "kaf"),
        train_images=300,
        images=20,
        steps=3,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    activation_distributions.main(config)
    found = written(config.out)["activations"]
    for row in found.values():
        (layer,) = row["layers"].values()
        assert 0.9 < sum(layer["clean"]) <= 1 + 1e-6 and layer["moved"] > 0
    kwta = found["kwta-0.2"]["layers"]["layers.1"]
    assert kwta["zeros"] == pytest.approx(26 / 32, abs=0.02)  # 6 of 32 stay
    assert [row["outside_dictionary"] for row in found.values()] == [0, 0, 0.25]
