"""Generated networks beside FBF-trained ones, on as little as they can be told by."""

from dataclasses import replace

import pytest

from hypergen.errors import InputError
from scripts.studies import generated_activations


@pytest.fixture
def config(brief, brief_pretraining, tmp_path) -> generated_activations.StudyConfig:
    return generated_activations.StudyConfig(
        dataset="digits",
        epochs=1,
        target="mlp",
        activations=("relu", "kwta-0.2"),
        ways=("direct from fbf",),
        steps=2,
        samples=2,
        seeds=1,
        images=5,
        train="--population 2 --batch-size 8 --max-robustness-gap 1",
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )


def test_ways_that_there_are_not_are_told(config):
    with pytest.raises(InputError, match="direct from pgd"):
        generated_activations.main(replace(config, ways=("direct from pgd",)))


def test_one_activation(config, written):
    quick = replace(config, activations=("relu",), ways=("direct",), evaluate="--attack quick")
    generated_activations.main(quick)
    summary = written(config.out)["summary"]
    assert [(kind, row["count"]) for kind, row in summary.items()] == [
        ("relu, fbf", 1),
        ("relu, direct", 2),
    ]


@pytest.mark.slow
def test_generated_beside_direct_networks(config, written):
    # One activation after the other: what is written is all that is there.
    generated_activations.main(replace(config, only=("kwta-0.2",)))
    assert list(written(config.out)["summary"]) == ["kwta-0.2, fbf", "kwta-0.2, direct from fbf"]
    generated_activations.main(replace(config, only=("relu",)))
    figures = written(config.out)
    kinds = ["relu, fbf", "relu, direct from fbf", "kwta-0.2, fbf", "kwta-0.2, direct from fbf"]
    assert list(figures["summary"]) == kinds
    assert [row["count"] for row in figures["summary"].values()] == [1, 2, 1, 2]
    assert len(figures["networks"]) == 6
    for row in figures["summary"].values():
        assert list(row["after"].values())[-1] == pytest.approx(row["robustness"])
