"""TRADES' training images, beside the authors' own lines."""

import pytest
import torch
from torch.nn import functional as F

from attacks import TRADES, AttackError, Threat
from attacks.losses import divergence
from attacks.rng import PerNetworkRNG
from tests.attacks.conformance import problem

EPSILON, STEPS = 0.1, 10


def published(network, images, start):
    """As in the authors' trades.py, from a given start; images [B,C,H,W], in linf."""
    points = start.detach()
    for _ in range(STEPS):
        points.requires_grad_()
        loss = F.kl_div(
            F.log_softmax(network(points), dim=1),
            F.softmax(network(images), dim=1),
            reduction="sum",
        )
        (gradient,) = torch.autograd.grad(loss, [points])
        points = points.detach() + 2.5 * EPSILON / STEPS * gradient.sign()
        points = torch.min(torch.max(points, images - EPSILON), images + EPSILON).clamp(0, 1)
    return points


def test_it_is_what_the_authors_train_on_whatever_the_labels():
    model, images, labels = problem(2, 20)
    attack = TRADES(Threat("linf", EPSILON), STEPS)
    found = attack.perturb(model, images, labels, [3, 4])
    noise = PerNetworkRNG([3, 4]).normal(*images.shape[1:])
    start = (images + 0.001 * noise).clamp(0, 1)
    for index, network in enumerate(model.nets):
        expected = published(network, images[index], start[index])
        assert torch.allclose(found[index], expected, atol=1e-6)
    assert found.equal(attack.perturb(model, images, 1 - labels.clamp(max=1), [3, 4]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_raises_the_divergence_inside_the_threat(norm):
    model, images, labels = problem(2, 20)
    threat = Threat(norm, {"linf": 0.05, "l2": 0.3, "l1": 1.0}[norm])
    found = TRADES(threat).perturb(model, images, labels, [0, 1])
    assert threat.contains(found, images).all() and found.min() >= 0 and found.max() <= 1
    start = threat.random_start(images, PerNetworkRNG([0, 1]))
    with torch.no_grad():
        clean, end, drawn = model(images), model(found), model(start)
    assert divergence(clean, end).mean() > 2 * divergence(clean, drawn).mean()


def test_no_steps_are_refused():
    with pytest.raises(AttackError, match="steps"):
        TRADES(Threat("linf", 0.1), steps=0)
