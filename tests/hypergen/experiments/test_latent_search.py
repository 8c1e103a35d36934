"""What is proposed to be measured: latent samples that the value network thinks highly of."""

import dataclasses
import math
from typing import get_args

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.latent_search import ASCENT_STEPS, Method, propose
from hypergen.models.bundle import ModelBundle
from hypergen.models.latent import preference_weights

METHODS = get_args(Method)


@pytest.fixture
def unseen(few, forbid):
    """The data set, whose test images nothing may look at."""
    return dataclasses.replace(few, test=forbid(few.test))


@pytest.mark.parametrize("method", METHODS)
def test_as_many_as_asked_within_what_the_generator_was_trained_for(method, ranged_run, unseen):
    sampler, before = ranged_run.sampler, torch.get_rng_state()
    parameters = [*sampler.models.ema.parameters()]
    found = propose(sampler, unseen, 14, method, seed=3)
    assert len(found.z) == len(found.preference) == len(found.estimates)
    # Steps up the gradient cost as much as candidates, and are none.
    assert len(found.z) == (14 if method != "gradient" else 2 + (14 - 2) % ASCENT_STEPS)
    assert found.z.shape[1] == sampler.models.latent.size and found.z.abs().max() < 5
    assert found.preference.min() >= 0 and found.preference.max() <= 0.8
    assert found.z.unique(dim=0).shape == found.z.shape
    estimates, uncertainty = sampler.estimate(sampler.generate(found.z, found.preference), unseen)
    torch.testing.assert_close(found.estimates, (estimates - uncertainty).cpu())
    again = propose(sampler, unseen, 14, method, seed=3)
    assert again.z.equal(found.z) and again.estimates.equal(found.estimates)
    assert not propose(sampler, unseen, 14, method, seed=4).z.equal(found.z)
    assert torch.get_rng_state().equal(before)
    assert all(parameter.grad is None for parameter in parameters)


def test_the_gradient_leads_up(ranged_run, few):
    sampler = ranged_run.sampler
    found = propose(sampler, few, 8 * (ASCENT_STEPS + 1), "gradient", seed=0)
    weights = preference_weights(found.preference, sampler.config)
    worth = (weights * found.estimates).sum(1)
    starts, ends = worth[:8], worth[8:16]
    assert found.preference[:8].equal(found.preference[8:16])
    assert (ends > starts).double().mean() >= 0.75 and ends.mean() > starts.mean()


@pytest.mark.parametrize("method", ["gradient", "nsga2"])
def test_weights_of_measures_sum_to_1_within_their_ranges(method, few):
    measures = ("accuracy=0.2:1", "robustness=0:0.5", "int8=0.3")
    config = TrainConfig.of(target="mlp", measure=measures, objective="value", steps=1)
    sampler = Sampler(config, few.info, ModelBundle.fresh(config, few.info), 1, few)
    weights = propose(sampler, few, 12, method, seed=0).preference
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    parts = weights / weights[:, 2:] * 0.3  # as they were before their sum was made 1
    assert parts[:, 0].min() >= 0.2 - 1e-6 and parts[:, 0].max() <= 1 + 1e-6
    assert parts[:, 1].max() <= 0.5 + 1e-6 and parts[:, 1].std() > 0.01


def test_z_that_is_uniform_stays_within_its_bounds(few):
    config = TrainConfig.of(target="mlp", generator="published", steps=1)
    sampler = Sampler(config, few.info, ModelBundle.fresh(config, few.info), 1, few)
    for method in ("gradient", "random"):
        z = propose(sampler, few, 30, method, seed=0).z
        assert z.abs().max() <= 10 and z.std() > 10 / math.sqrt(12)
