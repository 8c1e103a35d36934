"""N-FGSM, beside the authors' own lines and on linear models."""

import pytest
import torch
from torch.nn import functional as F

from attacks import FGSM, NFGSM, AttackError, Threat
from attacks.rng import PerNetworkRNG
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_linear import FEATURES, grey_images, linear

EPSILON = 0.05


def published(network, images, labels, noise):
    """As in the authors' train.py: images [B,C,H,W], the noise drawn; what is trained on."""
    eta = torch.clamp(noise, 0 - images, 1 - images).requires_grad_()
    loss = F.cross_entropy(network(images + eta), labels)
    (gradient,) = torch.autograd.grad(loss, eta)
    delta = eta + EPSILON * gradient.sign()
    return images + torch.clamp(delta, 0 - images, 1 - images)


def test_it_is_what_the_authors_train_on():
    model, images, labels = problem(2, 20)
    found = NFGSM(Threat("linf", EPSILON)).perturb(model, images, labels, [3, 4])
    noise = (2 * PerNetworkRNG([3, 4]).uniform(*images.shape[1:]) - 1) * 2 * EPSILON
    for index, network in enumerate(model.nets):
        expected = published(network, images[index], labels[index], noise[index])
        assert torch.allclose(found[index], expected.detach(), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nothing_is_cut_back_to_the_threat(norm):
    generator = torch.Generator().manual_seed(0)
    images, labels = grey_images(1, 50, generator), torch.zeros(1, 50, dtype=torch.int64)
    model = Loop([linear(torch.randn(2, FEATURES, generator=generator), torch.zeros(2))])
    threat = Threat(norm, EPSILON)
    found = NFGSM(threat).perturb(model, images, labels, [0])
    assert found.min() >= 0 and found.max() <= 1
    distance = threat.distance(found, images)
    assert distance.max() > 1.5 * EPSILON and distance.max() <= 3 * EPSILON * (1 + 1e-5)


def test_without_noise_it_is_fgsm():
    model, images, labels = problem(2, 20)
    threat = Threat("linf", EPSILON)
    found = NFGSM(threat, noise=0.0).perturb(model, images, labels, [0, 1])
    assert torch.allclose(found, FGSM(threat).perturb(model, images, labels, [0, 1]))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"threat": Threat("l1", 1.0)}, "n-fgsm knows the norms linf and l2 only"),
        ({"threat": Threat("linf", 0.1), "noise": -1.0}, "noise"),
        ({"threat": Threat("linf", 0.1), "noise": float("nan")}, "noise"),
    ],
)
def test_what_cannot_be_is_told(settings, reason):
    with pytest.raises(AttackError, match=reason):
        NFGSM(**settings)
