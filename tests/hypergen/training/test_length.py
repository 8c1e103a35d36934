"""How long a generator is trained where nobody says it."""

from types import SimpleNamespace

import pytest

from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.length import LEAST_STEPS, MULTIPLE, with_steps


def images(count, shape=(1, 28, 28)):
    """What is asked of a data set of so many training images."""
    names = tuple("0123456789")
    return SimpleNamespace(train=range(count), info=DatasetInfo("mine", shape, names))


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (55_000, {}),
        (55_000, {"population": 1, "batch_size": 100}),
        (54_999, {"population": 3}),
        (45_000, {"target": "resnet20", "epsilon": 0.03}),
        (45_000, {"target": "resnet20-none", "epsilon": 0.03}),
    ],
    ids=str,
)
def test_networks_see_twice_the_images_of_a_direct_training(count, options):
    shape = (3, 32, 32) if "target" in options else (1, 28, 28)
    dataset = images(count, shape)
    config = TrainConfig.of(dataset="mnist", **options)
    step = with_steps(config, dataset).optimisation
    direct = BaselineConfig.of(method="fbf", dataset="mnist", target=config.target, epsilon=0.03)
    plan = DirectPlan.of(direct, dataset.info, count)
    seen = step.length * step.population * step.batch_size
    enough = MULTIPLE * plan.epochs * count
    assert enough <= seen < enough + step.population * step.batch_size


def test_few_images_take_the_least_steps():
    assert with_steps(TrainConfig(), images(1000)).optimisation.length == LEAST_STEPS


def test_a_target_that_no_memory_holds_is_not_made():
    config = TrainConfig.of(dataset="mnist", target="wide-mlp", epsilon=0.03)
    huge = images(1000, (3, 10**6, 10**6))
    assert with_steps(config, huge).optimisation.length == LEAST_STEPS


@pytest.mark.parametrize("steps", [1, 7000])
def test_what_is_said_is_kept(steps):
    config = TrainConfig.of(steps=steps)
    assert with_steps(config, images(55_000)) is config
