"""Activations under FBF training, on as little as they can be told by."""

import pytest

import attacks
from hypergen import data
from hypergen.storage.weights import load_network
from scripts.studies import activations
from targets import outside_dictionary


def test_two_activations(brief, tmp_path, monkeypatch, written):
    config = activations.StudyConfig(
        dataset="digits",
        epochs=1,
        targets=("mlp",),
        activations=("relu", "kaf-elu"),
        train_images=300,
        images=10,
        sra_images=5,
        restarts=1,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    activations.main(config)
    rows = written(config.out)["networks"]
    assert list(rows) == ["mlp-relu", "mlp-kaf-elu"]
    digits = data.load("digits").test
    images, labels = digits.first(len(digits))
    for name, row in rows.items():
        network = load_network(config.work / f"{name}.safetensors")
        outside = outside_dictionary(network, images[: config.images]).values()
        assert row["outside_dictionary"] == pytest.approx(max(outside, default=0))
        right = (network(images).argmax(1) == labels).float()
        assert row["accuracy"] == pytest.approx(float(right.mean()))
        assert row["pgd"] <= float(right[: config.images].mean())
        assert row["sra"] <= float(right[: config.sra_images].mean())
    assert config.out.with_suffix(".png").stat().st_size > 10_000
    # A call killed while judging attacks no image a second time.
    for path in config.work.glob("mlp-*.json"):
        path.unlink()
    monkeypatch.setattr(attacks.Attack, "__call__", None)
    activations.main(config)
    again = written(config.out)["networks"]
    for name, row in rows.items():
        assert again[name] | {"seconds": None} == row | {"seconds": None}
