"""Attacks that look for the nearest adversarial example, where that one is known."""

import pytest
import torch
import torchattacks
from torch import Tensor

from attacks import Attack, AttackError, DeepFool, Model, Threat, build
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_linear import DUAL, grey_images, linear

CLASSES = 6
FEATURES = 25
BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])
BOX = {"linf": Threat("linf", 1.0), "l2": Threat("l2", 100.0)}
"""Threats that hold every image there is: what an attack finds, it may keep."""


def affine(images: Tensor, seed: int = 0) -> tuple[Loop, Tensor, Tensor, Tensor]:
    """A classifier of many classes with its weight, bias, and what it says of the images."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(CLASSES, FEATURES, generator=generator)
    # So that the likeliest wrong class is often not the nearest.
    weight *= torch.linspace(0.3, 3, CLASSES)[:, None]
    bias = -weight.sum(1) / 2
    model = Loop([linear(weight, bias)])
    return model, weight, bias, model(images).detach().argmax(-1)


def closed_form(weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """How far each image is from the nearest other class, [P,B], if [0, 1] does not bind."""
    logits = images.flatten(2) @ weight.T + bias
    gaps = logits.gather(-1, labels[..., None]) - logits
    distances = gaps / (weight[:, None] - weight).norm(p=DUAL[norm], dim=-1)[labels]
    return distances.scatter(-1, labels[..., None], torch.inf).amin(-1)


def found_at(attack: Attack, norm: str, model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """How far the examples are that the attack finds, one for every image, [P,B]."""
    result = attack(model, images, labels, [0])
    assert not result.correct.any()
    return Threat(norm, 0.0).distance(result.images, images)


@BOTH
def test_deepfool_steps_just_over_the_nearest_boundary(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    for overshoot in (0.02, 0.3):
        distance = found_at(DeepFool(BOX[norm], overshoot=overshoot), norm, model, images, labels)
        assert torch.allclose(distance, (1 + overshoot) * exact, rtol=1e-3)
    # Not simply the boundary to the likeliest wrong class, which is all that two candidates see.
    distance = found_at(DeepFool(BOX[norm], candidates=2), norm, model, images, labels)
    assert (distance > 1.05 * exact).float().mean() > 0.1


@BOTH
def test_deepfool_counts_what_is_within_epsilon(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    epsilon = float(exact.median())
    found = DeepFool(Threat(norm, 1.02 * epsilon * (1 + 1e-4)))(model, images, labels, [0])
    assert torch.equal(~found.correct, exact <= epsilon)
    assert torch.equal(found.images[found.correct], images[found.correct])


def test_deepfool_finds_the_examples_of_torchattacks(digits):
    net, images, labels = digits
    images, labels = images[:40], net(images[:40]).argmax(-1)
    theirs = torchattacks.DeepFool(net, steps=20)(images, labels)
    crossed = net(theirs).argmax(-1) != labels
    # Theirs, held up by pixels at 0 or 1, often only tends to the boundary.
    assert 0.3 < crossed.float().mean() < 0.9
    attack = DeepFool(BOX["l2"], steps=20)
    ours = found_at(attack, "l2", lambda x: net(x[0])[None], images[None], labels[None])[0]
    ratio = ours / (theirs - images).flatten(1).norm(dim=1)
    assert ratio[crossed].min() > 0.999 and ratio[crossed].max() < 1.02 * 1.001


def test_deepfool_lets_go_of_images_whose_class_has_changed():
    model, images, labels = problem(1, 30)
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return model(x)

    DeepFool(Threat("l2", 1e-4))(counted, images, labels, [0])
    # Clean, then a step's gradients, four an image, and its judgement, and a final check of all.
    gradients, judged = sizes[1:-1:2], sizes[2:-1:2]
    assert gradients == [4 * size for size in judged]
    assert judged == sorted(judged, reverse=True) and judged[-1] < judged[0] and len(judged) < 20


@BOTH
def test_deepfool_looks_past_classes_whose_lead_is_flat(norm):
    images = grey_images(1, 20, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    twins = Loop([linear(weight[[0, 0, 1, 2]], bias[[0, 0, 1, 2]] + torch.tensor([9, 9, 0, 0]))])
    distance = found_at(DeepFool(BOX[norm], steps=2), norm, twins, images, 0 * labels)
    assert (distance > 0.1).all()
    flat = Loop([linear(0 * weight, bias)])
    result = DeepFool(BOX[norm], steps=2)(flat, images, 0 * labels + bias.argmax(), [0])
    assert result.correct.all() and torch.equal(result.images, images)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deepfool", {"candidates": 1}, "expected candidates to be a whole number of at least 2"),
        ("deepfool", {"overshoot": 0.0}, "expected overshoot to be a finite number above 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(AttackError, match=message):
        build(name, BOX["l2"], **options)
