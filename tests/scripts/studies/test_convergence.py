"""When training fails, on as little as can fail."""

import pytest

from hypergen.config import TrainConfig
from scripts.studies import convergence


@pytest.mark.slow
def test_convergence(brief, brief_pretraining, tmp_path, written):
    config = convergence.ConvergenceConfig(
        train=TrainConfig.of(target="mlp", steps=2, population=2, batch_size=8),
        seeds=2,
        few=1,
        samples=2,
        images=10,
        work=tmp_path / "work",
        out=tmp_path / "convergence.json",
    )
    convergence.main(config)
    ways = written(config.out)["ways"]
    assert set(ways) == {variant.name for variant in convergence.VARIANTS}
    often = {"direct, scratch": 2, "value, set, scratch": 2}
    for name, row in ways.items():
        assert row["runs"] == len(row["each"]) == often.get(name, 1)
        assert row["succeeded"] + len(row["failures"]) == row["runs"]
    assert ways["direct, scratch"]["failures"] == ["at chance"] * 2  # two steps teach nothing


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"diverged": 3}, "NaN"),
        ({"accuracy": 0.1, "sra": 0.1}, "at chance"),
        ({"accuracy": 0.9, "sra": 0.8}, "inaccurate"),
        ({"accuracy": 0.97, "sra": 0.4}, "not robust"),
        ({"accuracy": 0.97, "sra": 0.6}, "succeeded"),
    ],
)
def test_what_a_run_failed_by(found, verdict):
    assert convergence.verdict(found, floor=0.3) == verdict
