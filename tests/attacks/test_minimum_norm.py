"""Attacks that minimise the norm of a perturbation, where the least one is known."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from attacks import (
    LBFGS,
    Attack,
    AttackError,
    AttackResult,
    CarliniWagner,
    Threat,
    build,
)
from attacks.lbfgs import minimise as projected_lbfgs
from attacks.losses import margin
from tests.attacks.conformance import Loop, problem
from tests.attacks.exact_distances import (
    BOX,
    CLASSES,
    FEATURES,
    affine,
    boxed,
    closed_form,
    exact_within_the_box,
    found_at,
)
from tests.attacks.test_linear import linear


def two_classes(images: Tensor, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A classifier that says 0 of nearly all images, about 0.8 from the boundary in l2."""
    weight = torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(seed))
    lead = weight[0] - weight[1]
    bias = torch.stack([0.8 * lead.norm() - lead.sum() / 2, torch.tensor(0.0)])
    net = linear(weight, bias)
    return net, weight, bias, net(images[0])[None].argmax(-1)


@functools.cache
def many_classes() -> tuple[Loop, Tensor, Tensor, Tensor]:
    """A classifier, images, what it says of them, and how far the nearest other class is in l2."""
    images = boxed(6, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    return model, images, labels, exact_within_the_box(weight, bias, images, labels, "l2")


@functools.cache
def found_of_two_classes(attack: Attack) -> AttackResult:
    """What the attack finds of that classifier, and of one with logits 100 times as large."""
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    model = Loop([net, linear(100 * weight, 100 * bias)])
    return attack(model, images.expand(2, -1, -1, -1, -1), labels[0], [0, 1])


L2_ONLY = pytest.mark.parametrize(
    "attack",
    [
        CarliniWagner(BOX["l2"], steps=150, searches=6, learning_rate=0.03),
        LBFGS(BOX["l2"], steps=20, searches=10),
    ],
    ids=lambda attack: attack.name,
)


@L2_ONLY
def test_nearest_in_l2_within_the_box(attack):
    images = boxed(10, torch.Generator().manual_seed(1))
    _, weight, bias, labels = two_classes(images)
    exact = exact_within_the_box(weight, bias, images, labels, "l2")
    assert (exact > 1.01 * closed_form(weight, bias, images, labels, "l2")).any()
    result = found_of_two_classes(attack)  # with both sizes of logits: each image has its weight
    assert not result.robust_mask.any()
    ratio = Threat("l2", 0.0).distance(result.images, images) / exact
    assert (ratio > 0.9999).all() and (ratio < 1.03).all()


@L2_ONLY
def test_never_nearer_than_the_nearest_of_many_classes(attack):
    model, images, labels, exact = many_classes()
    ratio = found_at(attack, "l2", model, images, labels) / exact
    assert (ratio > 0.9999).all() and ratio.median() < 1.03


@L2_ONLY
def test_an_example_counts_within_epsilon_only(attack):
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    distance = Threat("l2", 0.0).distance(found_of_two_classes(attack).images[:1], images)
    epsilon = float(distance.median()) + 1e-4
    result = replace(attack, threat=Threat("l2", epsilon))(Loop([net]), images, labels, [0])
    assert torch.equal(~result.robust_mask, distance <= epsilon)
    assert torch.equal(result.images[result.robust_mask], images[result.robust_mask])


@L2_ONLY
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_in_other_norms_every_example_visited_inside_the_ball_counts(attack, norm):
    model, images, labels = problem(1, 30)
    epsilon = {"linf": 0.1, "l1": 1.0}[norm]
    threat = Threat(norm, epsilon)
    first = model(images).argmax(-1) == labels
    broken, farther = ~first, torch.zeros_like(first)

    def watched(points: Tensor) -> Tensor:
        nonlocal broken, farther
        logits = model(points)
        if points.shape == images[first][None].shape:
            wrong = logits.argmax(-1) != labels[first]
            inside = threat.contains(points, images[first][None])
            broken[first] |= (wrong & inside)[0]
            farther[first] |= (wrong & ~inside)[0]
        return logits

    brief = replace(attack, threat=threat, steps=attack.steps // 2, searches=4)
    result = brief(watched, images, labels, [0])
    assert torch.equal(result.robust_mask, ~broken)
    assert 0 < int((broken & first).sum()) < int(first.sum()) and (broken & first & farther).any()


def test_cw_moves_pixels_of_0_and_1():
    # Half of the pixels are 0, half are 1, and the nearest example has all of them go inwards.
    images = (torch.arange(FEATURES).view(1, 1, 1, 5, 5) % 2).float()
    inward = 1 - 2 * images.flatten()
    model = Loop([linear(torch.stack([-inward, inward]), torch.tensor([-19.0, 0.0]))])
    labels = torch.zeros(1, 1, dtype=torch.int64)
    exact = 5 / 2 / FEATURES**0.5  # the lead is 5, and every pixel takes 2 away at full length
    attack = CarliniWagner(BOX["l2"], steps=200, searches=5)
    found = attack(model, images, labels, [0]).images
    moved = (found - images).flatten() * inward
    assert moved.min() > 0.05 and exact < float(moved.norm()) < 1.02 * exact


def test_cw_with_a_margin():
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    further = exact_within_the_box(weight, bias + torch.tensor([1.5, 0]), images, labels, "l2")
    attack = CarliniWagner(BOX["l2"], steps=150, searches=6, learning_rate=0.03, kappa=1.5)
    result = attack(Loop([net]), images, labels, [0])
    assert margin(net(result.images[0])[None], labels).min() >= 1.5 - 1e-4
    ratio = Threat("l2", 0.0).distance(result.images, images) / further
    assert (ratio > 0.9999).all() and (ratio < 1.03).all()


def test_lbfgs_takes_the_nearest_of_its_targets():
    images = boxed(20, torch.Generator().manual_seed(1))
    model, _, _, labels = affine(images)
    few, many = (
        found_at(LBFGS(BOX["l2"], 10, 8, targets), "l2", model, images, labels)
        for targets in (1, CLASSES)
    )
    assert (many <= few).all() and (few > 1.1 * many).float().mean() > 0.1


def test_lbfgs_minimises_as_scipy_does():
    # Nearly a sum of absolute values: convex, but far from quadratic.
    generator = torch.Generator().manual_seed(0)
    slopes = 6 * torch.randn(10, FEATURES, FEATURES, generator=generator).double()
    shifts = 30 * torch.rand(10, FEATURES, generator=generator).double()

    def objective(points: Tensor) -> tuple[Tensor, Tensor]:
        y = (slopes @ points.flatten(2)[..., None]).squeeze(-1) - shifts
        values = (1 + y.square()).sqrt()
        return values.sum(-1), ((y / values)[..., None, :] @ slopes).view_as(points)

    def alone(x: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
        points = start.clone()
        points[0, row] = torch.from_numpy(x).view(1, 5, 5)
        values, gradients = objective(points)
        return values[0, row].numpy(), gradients[0, row].flatten().numpy()

    start = torch.full((1, 10, 1, 5, 5), 0.5, dtype=torch.float64)
    reached = objective(projected_lbfgs(objective, start, 60))[0][0]
    for row in range(10):
        best = minimize(
            alone,
            np.full(FEATURES, 0.5),
            args=(row,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * FEATURES,
            options={"ftol": 1e-15, "gtol": 1e-12},
        )
        assert 3 < ((best.x == 0) | (best.x == 1)).sum() < FEATURES
        assert float(reached[row]) == pytest.approx(best.fun, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deepfool", {"candidates": 1}, "expected candidates to be a whole number of at least 2"),
        ("deepfool", {"overshoot": 0.0}, "expected overshoot to be a finite number above 0"),
        ("cw", {"kappa": -0.1}, "expected a finite kappa >= 0, got -0.1"),
        ("cw", {"learning_rate": 0}, "expected learning_rate to be a finite number above 0"),
        ("lbfgs", {"searches": 0}, "expected searches to be a whole number of at least 1"),
        ("fab-t", {"targets": 0}, "expected targets to be a whole number of at least 1"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(AttackError, match=message):
        build(name, BOX["l2"], **options)
