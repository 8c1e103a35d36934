"""Multi steepest descent, step by step and on linear models, whose worst points are known."""

import pytest
import torch
from torch.nn import functional as F

from attacks import MSD, PGD, AttackError, Threat
from attacks.losses import cross_entropy
from attacks.threat import NORMS
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_linear import DUAL, EPSILON, FEATURES, grey_images, linear

THREATS = Threat("linf", 0.02), Threat("l2", 0.1), Threat("l1", 0.22)


@pytest.mark.parametrize("norm", NORMS)
def test_in_one_norm_it_is_pgd_from_the_clean_image(norm):
    model, images, labels = problem(2, 20)
    threat = Threat(norm, EPSILON[norm])
    found = MSD((threat,), steps=5).perturb(model, images, labels, [0, 1])
    pgd = PGD(threat, steps=5, random_start=False).perturb(model, images, labels, [0, 1])
    assert found.equal(pgd) and not found.equal(images)


def test_on_a_linear_model_it_gains_what_the_best_norm_can():
    """By epsilon times the dual norm of the difference of the classes' weights."""
    generator = torch.Generator().manual_seed(0)
    images = grey_images(1, 20, generator)
    labels = torch.zeros(1, 20, dtype=torch.int64)
    for norm in NORMS:  # whose radius is enlarged until it is the best
        weight = torch.randn(2, FEATURES, generator=generator)
        radii = {each: EPSILON[each] * (3 if each == norm else 0.2) / 3 for each in NORMS}
        best = max(
            radius * (weight[1] - weight[0]).norm(p=DUAL[each]) for each, radius in radii.items()
        )
        model = Loop([linear(weight, torch.zeros(2))])
        threats = tuple(Threat(each, radius) for each, radius in radii.items())
        adv = MSD(threats, steps=20).perturb(model, images, labels, [0])
        gain = (model(adv) - model(images)) @ torch.tensor([-1.0, 1.0])
        assert torch.allclose(gain, best.expand(1, 20), rtol=0.02)


def test_each_step_ends_where_the_loss_is_highest():
    """By hand: the sign, the unit gradient, the greatest entry; then the worst for each image."""
    model, images, labels = problem(1, 40)
    images = (0.3 + 0.4 * images).contiguous()  # far from 0 and 1, which then never bind
    found = MSD(THREATS, steps=1).perturb(model, images, labels, [0])
    points = images.clone().requires_grad_()
    F.cross_entropy(model(points)[0], labels[0], reduction="sum").backward()
    assert points.grad is not None
    gradient = points.grad.flatten(2)
    greatest = F.one_hot(gradient.abs().argmax(-1), gradient.shape[-1]) * gradient.sign()
    moves = [
        0.02 * gradient.sign(),  # steps of 2.5 * epsilon, cut at epsilon
        0.1 * F.normalize(gradient, dim=-1),
        0.22 * greatest,
    ]
    ends = torch.stack([images + move.view_as(images) for move in moves])
    with torch.no_grad():
        losses = torch.stack([cross_entropy(model(end), labels) for end in ends])
    worst = losses.argmax(0)
    assert len(worst.unique()) == 3  # or fewer norms would do
    expected = ends[worst[0], 0, torch.arange(40)][None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_points_lie_in_one_of_the_balls():
    model, images, labels = problem(3, 20)
    found = MSD(THREATS, steps=4).perturb(model, images, labels, [0, 1, 2])
    inside = torch.stack([threat.contains(found, images) for threat in THREATS])
    assert inside.any(0).all() and found.min() >= 0 and found.max() <= 1
    alone = MSD(THREATS, steps=4).perturb(Loop(model.nets[1:2]), images[1:2], labels[1:2], [9])
    torch.testing.assert_close(alone[0], found[1], rtol=0, atol=1e-6)
    with torch.no_grad():
        before, after = (cross_entropy(model(x), labels).mean() for x in (images, found))
    assert after > before


@pytest.mark.parametrize(
    ("threats", "steps", "message"),
    [
        ((), 3, "expected at least one threat, got none"),
        (Threat("l2", 1.0), 3, "expected a tuple of threats, got Threat"),
        (("l2",), 3, "expected a tuple of threats"),
        (THREATS, 0, "expected steps to be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused_in_one_line(threats, steps, message):
    with pytest.raises(AttackError, match=message) as told:
        MSD(threats, steps)
    assert "\n" not in str(told.value)
