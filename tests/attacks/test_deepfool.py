"""DeepFool: to the nearest boundary, where that one is known."""

import torch
import torchattacks
from torch import Tensor

from attacks import (
    DeepFool,
    Threat,
)
from tests.attacks.conformance import Loop, problem
from tests.attacks.exact_distances import (
    BOTH,
    BOX,
    affine,
    closed_form,
    found_at,
)
from tests.attacks.test_linear import grey_images, linear


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
    assert torch.equal(~found.robust_mask, exact <= epsilon)
    assert torch.equal(found.images[found.robust_mask], images[found.robust_mask])


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


def test_deepfool_deactivates_images_whose_class_has_changed():
    model, images, labels = problem(1, 30)
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return model(x)

    DeepFool(Threat("l2", 1e-4))(counted, images, labels, [0])
    # Clean, then a step's gradients, of four classes in one pass, its end, and a last check.
    gradients, ends = sizes[1:-1:2], sizes[2:-1:2]
    assert gradients == ends
    assert ends == sorted(ends, reverse=True) and ends[-1] < ends[0] and len(ends) < 20


@BOTH
def test_deepfool_looks_past_classes_whose_lead_is_flat(norm):
    images = grey_images(1, 20, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    twins = Loop([linear(weight[[0, 0, 1, 2]], bias[[0, 0, 1, 2]] + torch.tensor([9, 9, 0, 0]))])
    distance = found_at(DeepFool(BOX[norm], steps=2), norm, twins, images, 0 * labels)
    assert (distance > 0.1).all()
    flat = Loop([linear(0 * weight, bias)])
    result = DeepFool(BOX[norm], steps=2)(flat, images, 0 * labels + bias.argmax(), [0])
    assert result.robust_mask.all() and torch.equal(result.images, images)
