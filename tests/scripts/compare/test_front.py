"""The trade-off of one generator, on as little as it can be drawn of."""

from hypergen.config import TrainConfig
from scripts.compare import front


def test_one_generator_beside_direct_training(brief, tmp_path, written):
    config = front.FrontConfig(
        train=TrainConfig.of(
            target="mlp",
            image_size=8,
            beta="0:1",
            steps=2,
            population=2,
            batch_size=8,
            max_robustness_gap=1.0,
        ),
        betas=(0.2, 0.8),
        samples=2,
        epochs=1,
        images=5,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    front.main(config)
    figures = written(config.out)
    assert [(row["kind"], row["beta"]) for row in figures["networks"]] == [
        (kind, beta)
        for beta in config.betas
        for kind in ["one generator"] * 2 + ["FBF, each its own", "PGD training, each its own"]
    ]
    assert all(figures["seconds"][kind] > 0 for kind in ("generator", "fbf", "pgd"))
