"""Layers keep to a bound: of networks trained directly, of generated ones, and of all samples."""

import copy

import pytest
import torch
from torch import nn

import targets
from hypergen.cli.main import main
from hypergen.config import TrainConfig
from hypergen.experiments.base import base_recipe
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer
from targets import Population
from tests.targets.test_spectral_bound import dense_norms

ALLOWED = 1 + 1e-3
KINDS = "mlp", "small-conv"


class SmallConv(nn.Sequential):
    """So small that matrices of its layers take no time."""

    def __init__(self, num_classes, input_shape):
        conv = nn.Conv2d(input_shape[0], 3, 5, stride=4, padding=1)
        super().__init__(conv, nn.ReLU(), nn.Flatten())
        size = self(torch.zeros(1, *input_shape)).shape[1]
        self.append(nn.Linear(size, num_classes))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(targets.TARGETS, "small-conv", SmallConv)


def largest(module, shape):
    """The largest norm of a layer, relative to the bound."""
    return float(max(dense_norms(module, shape).values()))


def direct(target, dataset, cpu, **settings):
    settings = {"epochs": 3, "learning_rate": 0.05, "lipschitz_bound": 1.0} | settings
    return DirectTrainer(BaselineConfig.of(target=target, **settings), dataset, cpu)


@pytest.mark.parametrize("target", KINDS)
def test_every_step_of_a_direct_training_keeps_to_the_bound(target, few, cpu):
    trainer, seen = direct(target, few, cpu, ema_decay=0.5, method="fbf"), []
    assert largest(trainer.module, few.input_shape) <= ALLOWED

    def look():
        seen.append(largest(copy.deepcopy(trainer.module), few.input_shape))
        assert largest(copy.deepcopy(trainer.ema.module), few.input_shape) <= ALLOWED

    network = train_direct(trainer, look)
    assert len(seen) == trainer.steps and max(seen) <= ALLOWED
    assert max(seen) > 0.99  # the bound is what holds it
    assert largest(network, few.input_shape) <= ALLOWED


def test_a_bound_that_nothing_reaches_changes_nothing(few, cpu):
    free, wide = (
        train_direct(direct("mlp", few, cpu, lipschitz_bound=bound)) for bound in (None, 1e4)
    )
    for own, other in zip(free.parameters(), wide.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_training_goes_on_as_if_it_had_not_stopped(few, cpu):
    whole = train_direct(direct("small-conv", few, cpu))
    states = []
    train_direct(direct("small-conv", few, cpu), save=lambda s: states.append(copy.deepcopy(s)))
    again = direct("small-conv", few, cpu)
    again.load_state_dict(states[0])
    for own, other in zip(whole.parameters(), train_direct(again).parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("generator", ["dense", "published"])
def test_generated_networks_keep_to_the_bound_by_construction(target, generator, few, cpu):
    config = TrainConfig.of(
        target=target, generator=generator, lipschitz_bound=0.5, steps=3, population=2
    )
    trainer, seen = Trainer(config, few, cpu), []
    for _ in range(3):
        trainer.take_step()
        theta, _ = trainer.generate()
        networks = [*Population(trainer.models.target, theta.detach()), *trainer.sample(2, 1)]
        seen += [largest(network, few.input_shape) for network in networks]
    assert max(seen) <= 0.5 * ALLOWED and max(seen) > 0.49


def test_the_base_of_a_bounded_run_is_trained_with_the_bound():
    config = TrainConfig.of(base="fbf", lipschitz_bound=2.0)
    assert base_recipe(config, "fbf").lipschitz_bound == 2.0


@pytest.mark.parametrize(
    "words, problem",
    [
        ("baseline --lipschitz-bound 0", "--lipschitz-bound"),
        ("baseline --lipschitz-bound -1", "--lipschitz-bound"),
        ("train --lipschitz-bound nan", "--lipschitz-bound"),
        ("train --lipschitz-bound inf", "--lipschitz-bound"),
        ("baseline --lipschitz-bound 1 --target light-cnn", "batch norm"),
        ("train --lipschitz-bound 1 --target light-cnn --base fbf", "batch norm"),
    ],
)
def test_bad_input_is_one_line(words, problem, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*words.split(), "--device", "cpu", "--out", str(out)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and problem in told[0]
    assert not (out / "network.safetensors").exists() and not (out / "baselines").exists()
