"""What a run says that its steps took, beside what they were seen to take."""

import copy

import pytest
import torch

from hypergen.runtime.ranks import Place
from hypergen.training.cost import Cost
from hypergen.training.loop import train
from hypergen.training.trainer import Trainer
from targets import Population


def nothing(state) -> None:
    """Saves nothing."""


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """How many images a gradient passes through, each time that networks answer with one."""
    counts, whole = [], Population.__call__

    def answer(population, images):
        if torch.is_grad_enabled():
            counts.append(images.shape[0] * images.shape[1])
        return whole(population, images)

    monkeypatch.setattr(Population, "__call__", answer)
    return counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": "1", "attack_steps": 1, "measure_every": 4},  # clean images only at first
        {"objective": "value", "num_perturbed": 0},
        {"objective": "hybrid", "measure": ("accuracy=0.5", "robustness:norm=l2,epsilon=1=0.5")},
    ],
)
def test_gradients_are_those_that_were_taken(settings, tiny, few, cpu, seen):
    trainer = Trainer(tiny.replace(**settings), few, cpu)
    train(trainer, nothing)
    assert trainer.cost.gradient_evaluations == sum(seen) > 0


def test_a_run_from_a_base_counts_what_v_is_fitted_to_before(tiny, few, cpu, seen, fresh_mlp):
    trainer = Trainer(tiny.replace(base="base"), few, cpu, fresh_mlp)
    trainer.pretrain_value(steps=1)
    assert trainer.cost.gradient_evaluations == sum(seen) > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"measure": ("accuracy=0.5", "robustness:attack=fgsm=0.5")},
        {"objective": "value", "measure": ("accuracy=0.5", "int8=0.5")},
        {"objective": "value", "value_network": "mlp"},
    ],
)
def test_what_nobody_counts_is_not_told(settings, tiny, few, cpu):
    trainer = Trainer(tiny.replace(**settings, steps=1), few, cpu)
    train(trainer, nothing)
    assert trainer.cost.gradient_evaluations is None


def test_a_run_that_continues_adds_to_what_it_took(tiny, few, cpu):
    trainer = Trainer(tiny, few, cpu)
    train(trainer, nothing)
    took, counted = trainer.cost.seconds, trainer.cost.gradient_evaluations
    assert took is not None and 0 < took < 60
    state = copy.deepcopy(trainer.state_dict())
    again = Trainer(tiny, few, cpu)
    again.load_state_dict(state)
    with again.cost.timed():
        sum(range(100_000))
    assert again.cost.seconds is not None and again.cost.seconds > took
    assert again.cost.gradient_evaluations == counted
    for name in ("seconds_trained", "gradient_evaluations"):  # as before they were kept
        del state[name]
    again.load_state_dict(state)
    train(again, nothing)
    assert again.cost.seconds is None and again.cost.gradient_evaluations is None


def test_seconds_of_one_of_several_ranks_are_not_told(tiny, cpu, monkeypatch):
    monkeypatch.setattr("hypergen.training.cost.place", lambda: Place(0, 2))
    cost = Cost(tiny, cpu)
    with cost.timed():
        pass
    assert cost.seconds is None
