"""The trade-off of one generator, on as little as it can be drawn of."""

import pytest

from hypergen.config import TrainConfig
from hypergen.storage.weights import read_metadata
from scripts.compare import front


@pytest.mark.parametrize(
    ("knob", "settings", "asked"),
    [
        ("beta", {"beta": "0:1"}, (0.2, 0.8)),
        ("radius", {"epsilon": (0, 0.2), "beta": 0.6}, (0.0, 0.1)),
    ],
)
def test_one_generator_beside_direct_training(knob, settings, asked, brief, tmp_path, written):
    config = front.FrontConfig(
        train=TrainConfig.of(
            target="mlp",
            image_size=8,
            steps=2,
            population=2,
            batch_size=8,
            max_robustness_gap=1.0,
            **settings,
        ),
        asked=asked,
        samples=2,
        epochs=1,
        images=5,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    front.main(config)
    figures = written(config.out)
    assert [(row["kind"], row[knob]) for row in figures["networks"]] == [
        (kind, each)
        for each in asked
        for kind in ["one generator"] * 2 + ["FBF, each its own", "PGD training, each its own"]
    ]
    assert all(figures["seconds"][kind] > 0 for kind in ("generator", "fbf", "pgd"))
    # What was trained directly was trained for what the generator was asked.
    for each in asked:
        metadata = read_metadata(tmp_path / f"runs/pgd-{each:g}.safetensors")
        if knob == "beta":
            assert metadata["config"]["beta"] == each
        else:
            assert metadata["config"]["method"] == ("pgd" if each else "standard")
            assert not each or metadata["config"]["epsilon"] == each
            assert not each or metadata["config"]["beta"] == 0.6
