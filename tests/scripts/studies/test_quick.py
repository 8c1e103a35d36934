"""The brief forms of the studies."""

import functools
import os
from dataclasses import replace

import pytest

from hypergen import data
from scripts import common
from scripts.studies import (
    activation_distributions,
    activations,
    exploding_gradients,
    generated_activations,
    kwta,
)

WHOLE = data.load


@functools.cache
def beginning(*args, **options):
    """A data set's first images, read once for all studies."""
    found = WHOLE(*args, **options)
    heads = {part: getattr(found, part).head(64) for part in ("train", "val", "test")}
    return replace(found, **heads)


@pytest.mark.skipif("HYPERGEN_DATA" not in os.environ, reason="HYPERGEN_DATA is not set")
@pytest.mark.parametrize(
    ("study", "fewer"),
    [
        pytest.param(
            activations,
            {"targets": ("vgg", "resnet20"), "activations": ("swish",), "images": 2}
            | {"sra_images": 1, "epochs": 1},
            marks=pytest.mark.slow,
        ),
        (kwta, {"activations": ("kwta-0.03",), "images": 4, "schedule": ((1, 4),)}),
        pytest.param(
            exploding_gradients,
            {"only": ("resnet20 kaf",), "steps": 2, "batch_size": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            activation_distributions,
            {"activations": ("kaf",), "images": 8, "steps": 3},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            generated_activations,
            {"activations": ("kaf",), "steps": 2, "images": 2}
            | {"train": "--population 2 --batch-size 8 --max-robustness-gap 1"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", "smallest"),
)
def test_quick_on_real_images(study, fewer, brief, tmp_path, written, monkeypatch):
    """As `--quick` runs it, on less still: CIFAR-10 or MNIST, and the study's own networks."""
    monkeypatch.setattr(data, "load", beginning)
    kwta.dataset_of.cache_clear()
    places = {"work": tmp_path / "runs", "out": tmp_path / "figures.json"}
    config = replace(study.QUICK, **fewer, **places)
    study.main(config)
    figures = written(config.out)
    assert figures["settings"]["quick"]
    assert config.out.with_suffix(".png").stat().st_size > 10_000


def test_quick_is_no_more_than_a_default(monkeypatch):
    """What else the command line says stands."""
    given = ["kwta", "--quick", "--activations", "kwta-0.5", "--epochs", "2"]
    monkeypatch.setattr("sys.argv", given)
    configs = []
    with pytest.raises(SystemExit):
        common.run(configs.append, kwta.StudyConfig, "", kwta.QUICK)
    assert configs == [replace(kwta.QUICK, activations=("kwta-0.5",), epochs=2)]
