"""Universal perturbations: against closed forms, and what any of them must do."""

from functools import partial

import pytest
import torch

from attacks import (
    UNIVERSAL,
    AttackError,
    Threat,
    UniversalDeepFool,
    UniversalGradient,
    perturbed,
)
from tests.attacks.conformance import CLASSES, Loop, problem
from tests.attacks.test_linear import DUAL, FEATURES, grey_images, linear

EPSILON = {"linf": 0.02, "l2": 0.1}
BOTH_NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
BOTH = pytest.mark.parametrize(
    "make", [partial(UniversalDeepFool, passes=2), partial(UniversalGradient, passes=5, batch=8)]
)


def fooled(model, images, labels, perturbation):
    """Where the network is right when clean and wrong when perturbed."""
    right = model(images).argmax(-1) == labels
    return right & (model(perturbed(images, perturbation)).argmax(-1) != labels)


@BOTH_NORMS
@BOTH
def test_one_class_of_a_linear_classifier(make, norm):
    # Every image gains most from the same way, epsilon long; half of them are too far for it.
    generator = torch.Generator().manual_seed(0)
    threat, images = Threat(norm, EPSILON[norm]), grey_images(2, 32, generator)
    nets, normals, reachable = [], [], []
    for own in images:
        normal = torch.randn(FEATURES, generator=generator)
        scores = own.flatten(1) @ normal
        bias = -scores.median() - threat.epsilon * normal.norm(p=DUAL[norm])
        nets.append(linear(torch.stack([0 * normal, normal]), torch.stack([0 * bias, bias])))
        normals.append(normal.sign() if norm == "linf" else normal / normal.norm())
        reachable.append(scores >= scores.median())
    model, labels = Loop(nets), torch.zeros(2, 32, dtype=torch.int64)
    perturbation = make(threat).fit(model, images, labels, range(2))
    best = threat.epsilon * torch.stack(normals).view(2, 1, 5, 5)
    assert torch.allclose(perturbation, best, atol=1e-5 * threat.epsilon)
    # A little more than all, since the median image ends on the boundary itself.
    expected = torch.stack(reachable) & (model(images).argmax(-1) == labels)
    assert torch.equal(fooled(model, images, labels, 1.0001 * perturbation), expected)


@BOTH
def test_packed_equals_alone(make):
    seeds = [5, 6, 7]
    for threat in (Threat("linf", 0.05), Threat("l2", 0.2)):
        model, images, labels = problem(3, 12)
        attack = make(threat, target=0.4)
        packed = attack.fit(model, images, labels, seeds)
        for order in ([1], [2, 0]):
            alone = attack.fit(
                Loop([model.nets[i] for i in order]),
                images[order],
                labels[order],
                [seeds[i] for i in order],
            )
            assert torch.equal(alone, packed[order])


@BOTH
def test_it_stays_inside_the_ball_and_fools_some(make):
    for threat in (Threat("linf", 0.05), Threat("l2", 0.2)):
        model, images, labels = problem(2, 12)
        given = images.clone()
        perturbation = make(threat).fit(model, images, labels, [0, 1])
        assert perturbation.shape == (2, 1, 6, 6) and not perturbation.requires_grad
        size = threat.distance(perturbation[:, None], torch.zeros(2, 1, 1, 6, 6))
        assert (size <= threat.epsilon * (1 + 1e-6)).all() and (size > threat.epsilon / 2).all()
        points = perturbed(images, perturbation)
        assert points.min() >= 0 and points.max() <= 1 and torch.equal(images, given)
        assert fooled(model, images, labels, perturbation).any(1).all()
        again = make(threat).fit(model, images, labels, [0, 1])
        assert torch.equal(again, perturbation)


def test_it_stays_inside_an_l1_ball():
    model, images, labels = problem(2, 24)
    threat = Threat("l1", 1.0)
    perturbation = UniversalGradient(threat, passes=5, batch=8).fit(model, images, labels, [0, 1])
    lengths = perturbation.abs().sum((1, 2, 3))
    assert (lengths <= 1 + 1e-6).all() and (lengths > 0.5).all()


@BOTH
def test_no_room_and_nothing_to_fool_are_no_perturbation(make):
    model, images, labels = problem(2, 8)
    assert not make(Threat("l2", 0)).fit(model, images, labels, [0, 1]).any()
    assert not make(Threat("linf", 0)).fit(model, images, labels, [0, 1]).any()
    wrong = (model(images).argmax(-1) + 1) % CLASSES
    assert not make(Threat("linf", 0.05)).fit(model, images, wrong, [0, 1]).any()


def test_it_stops_at_its_target():
    model, images, labels = problem(1, 24)
    calls = []

    def counted(x):
        calls.append(len(x))
        return model(x)

    threat = Threat("linf", 0.3)
    lengths = []
    for target in (0.05, 1.0):
        calls.clear()
        UniversalGradient(threat, passes=8, target=target, batch=24).fit(
            counted, images, labels, [0]
        )
        lengths.append(len(calls))
    assert lengths[0] < lengths[1] <= 1 + 8 * 2


@pytest.mark.parametrize("name", UNIVERSAL)
def test_it_fools_on_images_never_seen_as_noise_does_not(name, digits):
    net, images, labels = digits
    model, threat = Loop([net]), Threat("linf", 0.15)
    count, passes = (60, 3) if name == "universal-deepfool" else (100, 5)  # DeepFool is slow
    attack = UNIVERSAL[name](threat, passes=passes)
    perturbation = attack.fit(model, images[None, :count], labels[:count], [0])
    generator = torch.Generator().manual_seed(0)
    noise = threat.epsilon * torch.randn(1, 1, 8, 8, generator=generator).sign()
    rates = [
        float(fooled(model, images[None, 100:], labels[None, 100:], v).float().mean())
        for v in (perturbation, noise)
    ]
    assert rates[0] > 1.3 * rates[1] > 0
    assert attack.name == name and attack.describe()["threat"]["epsilon"] == 0.15


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (partial(UniversalDeepFool, passes=0), "expected passes to be a whole number"),
        (partial(UniversalDeepFool, steps=0), "expected steps to be a whole number"),
        (partial(UniversalDeepFool, overshoot=0.0), "expected overshoot to be a finite number"),
        (partial(UniversalGradient, target=1.5), r"expected target in \(0, 1\], got 1.5"),
        (partial(UniversalGradient, target=0.0), r"expected target in \(0, 1\], got 0.0"),
        (partial(UniversalGradient, batch=0), "expected batch to be a whole number"),
        (partial(UniversalGradient, step_size=-1.0), "expected step_size to be a finite number"),
        (partial(UniversalGradient, clip=0.0), "expected clip to be a finite number"),
    ],
)
def test_bad_options(attempt, message):
    with pytest.raises(AttackError, match=message):
        attempt(Threat("linf", 0.1))


@BOTH
def test_bad_input(make):
    model, images, labels = problem(2, 8)
    attack = make(Threat("linf", 0.1))
    with pytest.raises(AttackError, match="2 seeds"):
        attack.fit(model, images, labels, [0])
    with pytest.raises(AttackError, match="expected labels below the model's 5 classes, got 5"):
        attack.fit(model, images, labels.clamp(max=0) + CLASSES, [0, 1])
    with pytest.raises(AttackError, match="NaN or infinite logits"):
        attack.fit(lambda x: model(x) * torch.nan, images, labels, [0, 1])
