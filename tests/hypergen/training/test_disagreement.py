"""Samples that differ as much as was asked for."""

import math

import pytest
import torch

from hypergen.catalog import GENERATORS
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measures.attacked import disagreement, predictions
from hypergen.training import disagreement as control
from hypergen.training.trainer import Trainer


@pytest.fixture
def steered(tiny, few, cpu) -> Trainer:
    return Trainer(tiny.replace(disagreement=0.2), few, cpu)


@pytest.mark.parametrize(
    ("found", "factor"),
    [
        (0.2, 1.0),
        (0.2 / math.sqrt(math.e), math.exp(control.RATE / 2)),
        (0.2 * math.sqrt(math.e), math.exp(-control.RATE / 2)),
        (0.0, math.exp(control.RATE)),
        (0.9, math.exp(-control.RATE)),
    ],
)
def test_the_prior_moves_by_how_far_samples_are_from_it(found, factor, steered, monkeypatch):
    monkeypatch.setattr(control, "disagreement", lambda classes: found)
    before = steered.models.prior_scale
    seen = steered.control.steer(0)
    expected = pytest.approx(before * factor)
    assert seen == {"disagreement": found, "prior_scale": expected}
    assert steered.generator.prior_scale == steered.ema.module.prior_scale == expected


def test_it_looks_at_samples_of_one_preference(tiny, few, cpu, monkeypatch):
    trainer = Trainer(tiny.replace(disagreement=0.2, beta="0:1"), few, cpu)
    asked = []
    monkeypatch.setattr(
        trainer.ema, "forward", lambda z, beta: asked.append(beta) or trainer.ema.module(z, beta)
    )
    found = trainer.control.steer(20)["disagreement"]
    (beta,) = asked
    assert beta.shape == (control.NETWORKS,) and len(beta.unique()) == 1
    z = trainer.models.latent.draw(
        control.NETWORKS, torch.Generator().manual_seed(trainer.config.optimisation.seed + 20)
    )
    trainer.models.prior_scale = trainer.config.generator.prior_scale
    networks = trainer.population(trainer.ema.module(z, beta))
    assert found == disagreement(predictions(networks, few.val.first(control.IMAGES)[0]))


def test_the_size_has_bounds(steered, monkeypatch):
    for found, bound in ((0.0, control.GREATEST), (0.9, control.LEAST)):
        monkeypatch.setattr(control, "disagreement", lambda classes, found=found: found)
        for _ in range(100):
            steered.control.steer(0)
        assert steered.models.prior_scale == bound


def test_looks_begin_after_the_warm_up(tiny, few, cpu, monkeypatch):
    monkeypatch.setattr(control, "INTERVAL", 1)
    monkeypatch.setattr(control, "disagreement", lambda classes: 0.0)
    trainer = Trainer(tiny.replace(disagreement=0.2, warmup=0.5, steps=8), few, cpu)
    seen = ["prior_scale" in trainer.advance() for _ in range(8)]
    assert seen == [False, False] + [True] * 6  # at the third step it is over
    other = Trainer(trainer.config, few, cpu)
    other.load_state_dict(trainer.state_dict())
    for each in (trainer, other):
        assert each.models.prior_scale == pytest.approx(0.5 * math.exp(6 * control.RATE))


def test_more_is_reached_by_a_larger_prior(few, cpu, tiny):
    """Which is what makes it a control."""
    trainer = Trainer(tiny.replace(disagreement=0.2), few, cpu)
    for _ in range(3):
        trainer.take_step()
    found = []
    for size in (0.0, 0.2, 1.0):
        trainer.models.prior_scale = size
        found.append(trainer.control.steer(0)["disagreement"])
    assert found == sorted(found) and found[0] < found[-1]


def test_without_it_nothing_is_done(tiny, few, cpu):
    trainer = Trainer(tiny, few, cpu)
    assert not trainer.control.is_due(0) and "prior_scale" not in trainer.state_dict()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"generator": "published"}, "latent space of its own: leave out `disagreement`"),
        ({"prior_scale": 0.0}, "reached by a prior_scale above 0"),
        ({"disagreement": 1.0}, r"must lie in \(0,1\)"),
    ],
)
def test_what_cannot_be_steered_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        TrainConfig.of(**{"disagreement": 0.01} | settings)


def test_a_generator_without_a_prior_is_refused(tiny, few, cpu, monkeypatch):
    def plain(layout, base_weights, latent_size):
        module = torch.nn.Linear(latent_size, layout.size)
        module.forward = lambda z, beta: torch.nn.functional.linear(z, module.weight, module.bias)
        return module

    GENERATORS.register("plain")(plain)
    try:
        with pytest.raises(InputError, match="plain has no random prior: leave out `disagreement`"):
            Trainer(tiny.replace(generator="plain", disagreement=0.1), few, cpu)
    finally:
        GENERATORS.drop("plain")
