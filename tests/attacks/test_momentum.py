import pytest
import torch
import torchattacks

from attacks import PGD, MomentumFGSM, Threat
from tests.attacks.conformance import Loop, network, problem
from tests.attacks.test_linear import linear


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_equals_torchattacks(decay):
    # In double precision, where no gradient is small enough for rounding to turn its sign.
    _, images, labels = problem(1, 40)
    net, images = network(0).double(), images.double()
    theirs = torchattacks.MIFGSM(net, eps=0.05, alpha=0.01, steps=15, decay=decay)
    expected = theirs(images[0], labels[0])
    for kept in (decay, decay + 0.2, 0.0):
        ours = MomentumFGSM(Threat("linf", 0.05), 15, 0.01, kept)
        adv = ours.perturb(Loop([net]), images, labels, [0])[0]
        # Another decay gives other points, or this would tell nothing.
        assert torch.allclose(adv, expected, rtol=0, atol=1e-7) == (kept == decay)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_momentum_it_is_pgd_from_the_clean_image(norm):
    model, images, labels = problem(2, 20)
    images, threat = images.double(), Threat(norm, 0.1)
    for net in model.nets:
        net.double()
    ours = MomentumFGSM(threat, 8, 0.03, decay=0.0)
    pgd = PGD(threat, 8, 0.03, random_start=False)
    points = [attack.perturb(model, images, labels, [0, 1]) for attack in (ours, pgd)]
    assert torch.allclose(*points, rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_saturated_image_stays_as_it_is_and_harms_no_other(norm):
    # So sure of one image that the cross-entropy's gradient underflows to exactly 0.
    weight = 20 * torch.stack([torch.ones(25), -torch.ones(25)])
    model = Loop([linear(weight, torch.zeros(2))])
    images = torch.full((1, 2, 1, 5, 5), 0.5)
    images[0, 0] = 0.01
    labels = torch.zeros(1, 2, dtype=torch.int64)
    epsilon = {"linf": 0.005, "l2": 5 * 0.005}[norm]  # the same point, at 25 pixels
    adv = MomentumFGSM(Threat(norm, epsilon)).perturb(model, images, labels, [0])
    assert torch.equal(adv[0, 1], images[0, 1])
    assert torch.allclose(adv[0, 0], images[0, 0] - 0.005)


def test_momentum_carries_over_a_plateau():
    # The gradient is zero within 0.02 of the first step, which a sum of gradients walks through.
    class Plateau(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rise = x.flatten(1).sum(1) - 0.5
            gap = 0.1 - rise.clamp(max=0.01) - 10 * (rise - 0.03).clamp(min=0)
            return torch.stack([gap, 0 * gap], 1)

    images, labels = torch.full((1, 1, 1, 1, 1), 0.5), torch.zeros(1, 1, dtype=torch.int64)
    threat = Threat("linf", 0.1)
    for decay, robust in ((1.0, False), (0.0, True)):
        result = MomentumFGSM(threat, 20, 0.005, decay)(Loop([Plateau()]), images, labels, [0])
        assert bool(result.robust_mask) == robust


def test_the_published_step_reaches_the_surface():
    attack = MomentumFGSM(Threat("linf", 0.3))
    assert (attack.steps, attack.decay, attack.size) == (10, 1.0, pytest.approx(0.03))
    assert attack.describe()["step_size"] == attack.size and attack.name == "mi-fgsm-10"
