import pytest
import torch
from torch.nn import functional as F

import attacks
from hypergen.measures import VALUE_ATTACKS, Robustness, Stage, judged, prepare_batch
from hypergen.measures.attacked import attack_population
from tests.hypergen.batches import PAIR, ROBUSTNESS, attacked_batch


def test_robustness_is_the_share_of_a_plain_loop(mixture, images, threat):
    batch = attacked_batch(mixture, *images, attacks.PGD(threat, steps=3), 4)
    found, loss = ROBUSTNESS(mixture, batch), ROBUSTNESS.surrogate_loss(mixture, batch)
    assert found.shape == loss.shape == (3,)
    for index in range(3):
        logits = mixture[index](batch.prepared["robustness"][index])
        assert found[index] == (logits.argmax(1) == batch.labels).double().mean()
        torch.testing.assert_close(loss[index], F.cross_entropy(logits, batch.labels))


@pytest.mark.parametrize("make", VALUE_ATTACKS.values())
def test_without_a_threat_robustness_is_accuracy(make, mixture, images):
    batch = attacked_batch(mixture, *images, make(attacks.Threat("linf", 0.0), 2), 0)
    accuracy, robustness = (measure(mixture, batch) for measure in PAIR)
    assert robustness.equal(accuracy) and accuracy.max() > 0.5


def test_margin_is_not_fooled_by_large_logits(mixture, images, threat):
    """Cross-entropy has no gradient left once soft-max is 0 or 1 to the last bit."""
    theta = mixture.theta.clone()
    for slot in list(mixture.layout.slots)[-2:]:
        theta[:, slot.start : slot.stop] *= 1e4
    saturated = mixture.with_theta(theta)

    def robustness(population, name):
        attack = VALUE_ATTACKS[name](threat, 5)
        return ROBUSTNESS(population, attacked_batch(population, *images, attack, 2))

    honest, deceived = (robustness(saturated, name) for name in ("margin", "pgd"))
    torch.testing.assert_close(honest, robustness(mixture, "margin"))
    assert (honest <= deceived).all() and honest[1] < deceived[1]


@pytest.mark.parametrize(("name", "loss"), [("margin", "margin"), ("pgd", "ce")])
def test_value_attacks_are_pgd_on_a_loss_of_their_own(name, loss, threat):
    assert VALUE_ATTACKS[name](threat, 7) == attacks.PGD(threat, steps=7, loss=loss)


def test_in_l1_enough_steps_are_taken_by_auto_pgd():
    threat = attacks.Threat("l1", 4.0)
    assert VALUE_ATTACKS["pgd"](threat, 6) == attacks.PGD(threat, steps=6)
    assert VALUE_ATTACKS["pgd"](threat, 7) == attacks.APGD(threat, steps=7)


def test_options_replace_what_they_name_of_the_runs_threat(threat):
    assert Robustness(threat).threat == threat
    assert Robustness(threat, epsilon=0.3).threat == attacks.Threat("linf", 0.3)
    assert Robustness(threat, "linf").threat == threat
    assert Robustness(threat, "l2", 1.5).threat == attacks.Threat("l2", 1.5)


def test_its_images_lie_in_its_own_threat(mixture, images, threat):
    measure = Robustness(threat, "l2", 0.5)
    stage = Stage(lambda own: attacks.PGD(own, steps=2), 0)
    batch = prepare_batch([measure], mixture, *images, stage)
    length = (batch.prepared["robustness"] - batch.images).flatten(2).norm(dim=-1)
    assert (length <= 0.5 + 1e-5).all() and (length > 0.49).any()


@pytest.mark.parametrize("name", ["apgd-ce", "random-fgsm", "deepfool", "quick"])
def test_any_attack_can_be_named(name, mixture, images, threat):
    measure, some = Robustness(threat, attack=name), slice(0, 20)
    stage = Stage(lambda own: attacks.PGD(own, steps=1), seed=3)
    batch = prepare_batch([measure], mixture, images[0][some], images[1][some], stage)
    stack = batch.images.expand(3, *batch.images.shape)
    result = attacks.build(name, threat)(mixture, stack, batch.labels, [3] * 3)
    assert measure.correct(mixture, batch).equal(result.robust_mask)
    assert batch.prepared["robustness"][result.robust_mask].equal(stack[result.robust_mask])
    assert 0 < result.robust_mask[1].sum() < 20


def test_a_named_attack_has_the_radius_of_the_stage(mixture, images, threat):
    measure = Robustness(threat, attack="fgsm")
    stage = Stage(lambda own: attacks.PGD(attacks.Threat(own.norm, own.epsilon / 2)), 0)
    made = prepare_batch([measure], mixture, *images, stage).prepared["robustness"]
    length = (made - images[0]).abs().amax((-3, -2, -1))
    assert torch.isclose(length, torch.full_like(length, 0.025)).any() and length.max() < 0.026


@pytest.mark.parametrize("loss", ["ce", "targeted"])
def test_the_strict_figure_counts_every_point_and_restart(loss, mixture, images, threat):
    attack, few = (
        attacks.PGD(threat, steps=4, restarts=3, loss=loss),
        [each[:30] for each in images],
    )
    stage = Stage(lambda own: attack, seed=3)
    found = judged([Robustness(threat)], mixture, *few, stage)[:, 0]
    assert found.equal(attack_population(mixture, *few, attack, 3).robust_accuracy)
    once = Robustness(threat)
    assert (found <= once(mixture, prepare_batch([once], mixture, *few, stage))).all()
