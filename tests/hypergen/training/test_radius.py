"""A generator that is trained for a range of radii."""

import pytest
import torch

from hypergen.measures import Stage
from hypergen.training import trainer as module
from hypergen.training.trainer import Trainer
from hypergen.training.value_fitter import ValueFitter


@pytest.fixture(params=["direct", "value"])
def steps(request, tiny, few, cpu, monkeypatch):
    """What each of six steps gave its generator, and how far its images were moved."""
    config = tiny.replace(
        objective=request.param,
        epsilon=(0.1, 0.4),
        epsilon_factor=1.0,
        epsilon_warmup=0.0,
        beta=0.9,
        base="none",
        measure_every=1,
    )
    trainer, prepare, prepared = Trainer(config, few, cpu), module.prepare_batch, []
    fit, stages = ValueFitter.fit, []

    def noted(measures, population, images, labels, stage: Stage):
        batch = prepare(measures, population, images, labels, stage)
        (moved,) = batch.prepared.values()
        prepared.append(float((moved - images).abs().amax()))
        return batch

    def fitted(self, theta, population, batch, stage):
        stages.append(stage(0).threat(config.threat).epsilon)
        return fit(self, theta, population, batch, stage)

    monkeypatch.setattr(module, "prepare_batch", noted)
    monkeypatch.setattr(ValueFitter, "fit", fitted)
    given, forward = [], trainer.generator.forward

    def asked(z, preference):
        given.append(preference)
        return forward(z, preference)

    monkeypatch.setattr(trainer.generator, "forward", asked)
    for _ in range(6):
        trainer.advance()
    return request.param, given, prepared, stages


def test_all_networks_of_a_step_withstand_the_radius_that_they_were_asked_for(steps):
    kind, given, moved, fitted = steps
    assert len(given) == len(moved) == len(fitted) == 6
    radii = []
    for preference in given:
        assert len(preference) == 2 and len(set(preference.tolist())) == 1
        radii.append(0.4 * float(preference[0]))
    assert 0.1 <= min(radii) < max(radii) <= 0.4 and len(set(radii)) == 6
    # Pixels on the border of [0,1] may not be moved so far, but some are in the middle.
    assert moved == pytest.approx(radii, abs=1e-5)
    # What V is fitted to without steering compares from step to step.
    assert fitted == pytest.approx(radii if kind == "value" else [0.4] * 6)


def test_one_radius_trains_as_it_always_did(tiny, few, cpu):
    """A step at the largest radius of a range is a step of a run of that radius."""
    ranged, fixed = (
        Trainer(tiny.replace(epsilon=epsilon, base="none"), few, cpu).adversary
        for epsilon in ((0.1, 0.2), 0.2)
    )
    for share, radius in ((1.0, 0.2), (0.5, 0.1)):
        threats = [
            adversary.at(share).training_stage(1.0, 0).threat(adversary.config.threat)
            for adversary in (ranged, fixed)
        ]
        assert threats[0] == threats[1]
        assert threats[0].epsilon == pytest.approx(1.15 * radius)
    assert ranged.share == 1


def test_samples_are_of_many_radii(tiny, few, cpu):
    trainer = Trainer(tiny.replace(epsilon=(0, 0.2)), few, cpu)
    with torch.no_grad():
        trainer.generator.offsets.normal_()  # as training leaves them
    trainer.ema.update_parameters(trainer.generator)
    theta = trainer.sample(3, seed=0).theta
    assert not theta[0].equal(theta[1])
