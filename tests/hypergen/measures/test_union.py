"""Robustness in several norms at once, against the norms one by one."""

import pytest
import torch
from torch.nn import functional as F

import attacks
from attacks.losses import margin
from hypergen.config import TrainConfig
from hypergen.measures import (
    LogitMeasure,
    Robustness,
    Stage,
    Union,
    measured,
    prepare_batch,
)
from hypergen.training.trainer import Trainer
from tests.hypergen.measures.figures import accuracy, figures, made

THREATS = attacks.Threat("linf", 0.03), attacks.Threat("l2", 0.6), attacks.Threat("l1", 4.0)
STAGE = Stage(lambda threat: attacks.PGD(threat, steps=3), seed=2)


def masks(measure: LogitMeasure, population, images, labels, stage=STAGE) -> torch.Tensor:
    """bool [P,B], the images that it counts."""
    batch = prepare_batch([measure], population, images, labels, stage)
    return measure.correct(population, batch)


def test_an_image_counts_that_is_right_clean_and_in_every_norm(mixture, images, threat):
    union = masks(Union(threat, linf=0.03, l2=0.6, l1=4.0), mixture, *images)
    alone = [masks(Robustness(each), mixture, *images) for each in THREATS]
    clean = masks(Robustness(threat, epsilon=0.0), mixture, *images)
    assert union.equal(torch.stack([clean, *alone]).all(0))
    assert 0 < union[1].sum() < clean[1].sum()


def test_its_images_are_those_of_the_worst_norm_in_the_ball_of_one(mixture, images, threat):
    union = Union(threat, linf=0.03, l2=0.6, l1=4.0)
    batch = prepare_batch([union], mixture, *images, STAGE)
    points, clean = batch.prepared["union"], images[0].expand(3, *images[0].shape)
    inside = torch.stack([each.contains(points, clean) for each in THREATS])
    assert inside.any(0).all() and points.min() >= 0 and points.max() <= 1
    alone = [Robustness(each).prepare(mixture, *images, STAGE) for each in THREATS]
    labels = images[1].expand(3, -1)
    margins = torch.stack([margin(mixture(made), labels) for made in (clean, *alone)])
    torch.testing.assert_close(margin(union.logits(mixture, batch), labels), margins.amax(0))
    assert len(margins.argmax(0).unique()) >= 2  # or one norm would do
    losses = torch.stack(
        [F.cross_entropy(net(x), images[1]) for net, x in zip(mixture, points, strict=True)]
    )
    torch.testing.assert_close(union.surrogate_loss(mixture, batch), losses)


@pytest.mark.parametrize("strict", [False, True])
def test_it_never_exceeds_robustness_in_a_norm(strict, mixture, images, threat):
    parts = [made(f"union:{each.norm}={each.epsilon}") for each in THREATS]
    measures = [Union(threat, linf=0.03, l2=0.6, l1=4.0), *parts]
    if strict:
        measures = [measure.strict() for measure in measures]
    union, *alone = (
        measured([each], mixture, prepare_batch([each], mixture, *images, STAGE))
        for each in measures
    )
    assert all((union <= each).all() for each in alone)
    assert (union <= accuracy(mixture, *images)[:, None]).all()


def test_strictly_an_image_must_survive_all_that_every_attack_visits(mixture, images, threat):
    strict = Union(threat, linf=0.03, l2=0.6, l1=4.0).strict()
    stack = images[0].expand(3, *images[0].shape)
    alone = [attacks.PGD(each, steps=3)(mixture, stack, images[1], [2] * 3) for each in THREATS]
    expected = torch.stack([result.robust_mask for result in alone]).all(0)
    assert masks(strict, mixture, *images).equal(expected)
    assert (expected <= masks(Union(threat, linf=0.03, l2=0.6, l1=4.0), mixture, *images)).all()


def test_it_may_be_of_any_attack(mixture, images, threat):
    union = made("union:linf=0.03,l2=0.6,attack=apgd-ce")
    stack = images[0][:20].expand(3, 20, *images[0].shape[1:])
    alone = [attacks.APGD(each)(mixture, stack, images[1][:20], [0] * 3) for each in THREATS[:2]]
    expected = torch.stack([result.robust_mask for result in alone]).all(0)
    assert figures(union, mixture, images[0][:20], images[1][:20]).equal(expected.double().mean(1))


@pytest.mark.parametrize("objective", ["direct", "value", "hybrid"])
def test_a_generator_is_trained_for_it(objective, tiny, few, cpu):
    asked = "union:linf=0.03,l2=0.6"
    config = tiny.replace(objective=objective, measure=("accuracy=0.5", f"{asked}=0.5"))
    trainer = Trainer(config, few, cpu)
    before = [weights.clone() for weights in trainer.generator.parameters()]
    metrics = trainer.advance()
    assert 0 <= metrics[f"measured/{asked}"] <= metrics["measured/accuracy"]
    after = list(trainer.generator.parameters())
    assert any(not new.equal(old) for new, old in zip(after, before, strict=True))
    assert TrainConfig.of(**config.flat()) == config
