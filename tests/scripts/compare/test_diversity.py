"""Ways to keep samples apart, on as little as they can be told by."""

import pytest

from hypergen.config import TrainConfig
from scripts.compare import diversity


@pytest.mark.parametrize(
    "only",
    [
        pytest.param((), id="all", marks=pytest.mark.slow),
        pytest.param(("nothing", "fixed map 0.5", "fbf"), id="few"),
    ],
)
def test_variants_side_by_side(only, tmp_path, written):
    tiny = TrainConfig.of(
        target="mlp", image_size=8, steps=2, population=3, batch_size=8, max_robustness_gap=1.0
    )
    config = diversity.CompareConfig(
        train=tiny,
        samples=3,
        images=10,
        fbf=2,
        fbf_epochs=1,
        only=only,
        work=tmp_path / "work",
        out=tmp_path / "diversity.json",
    )
    diversity.main(config)
    figures = written(config.out)
    assert set(figures["ways"]) == set(only or (*diversity.VARIANTS, "fbf"))
    differing = {name: row["disagreement"] for name, row in figures["ways"].items()}
    for name in differing.keys() & {"fixed map 0.5", "eight starts"}:
        assert differing["nothing"] < differing[name]
    for row in figures["ways"].values():
        assert 0 <= row["error_overlap"] <= 1 and row["worst_pgd"] <= row["pgd"]
        assert 0 < row["weight_distance"]["matched"] <= row["weight_distance"]["before"]
        for name in ("pgd", "accuracy"):
            assert row[name] <= row["best"][name] + 1e-9
