import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attacks import EOTPGD, PGD, Threat, build
from tests.attacks.conformance import Loop, network, problem


class Noisy(nn.Module):
    """A net whose every call adds other noise to the input, and gets images of one call alike."""

    def __init__(self, net: nn.Module, sigma: float) -> None:
        super().__init__()
        self.net, self.sigma = net, sigma
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.empty(x.shape[1:], dtype=x.dtype).normal_(generator=self.generator)
        return self.net(x + self.sigma * noise)


class Scripted:
    """Gets everything right or wrong, call by call as written in a string of r and w."""

    def __init__(self, answers: str) -> None:
        self.answers = answers
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        wrong = self.answers[self.calls] == "w"
        self.calls += 1
        logits = torch.tensor([-1.0, 1.0] if wrong else [1.0, -1.0])
        return logits.expand(*x.shape[:2], 2) + 0 * x.sum((2, 3, 4))[..., None]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_is_pgd_where_nothing_is_random(norm):
    model, images, labels = problem(2, 20)
    threat, seeds = Threat(norm, {"linf": 0.02, "l2": 0.08}[norm]), [0, 1]
    for options in ({"restarts": 2}, {"loss": "random"}, {"loss": "margin", "random_start": False}):
        pgd = build("pgd", threat, steps=6, **options)
        eot = build("eot-pgd", threat, steps=6, samples=3, **options)
        result, expected = eot(model, images, labels, seeds), pgd(model, images, labels, seeds)
        assert torch.equal(result.robust_mask, expected.robust_mask)
        # The sum of three gradients is rounded; in l-inf only its signs count.
        atol = 0 if norm == "linf" else 1e-6
        assert torch.allclose(result.images, expected.images, rtol=0, atol=atol)
        adv, expected = (attack.perturb(model, images, labels, seeds) for attack in (eot, pgd))
        assert torch.allclose(adv, expected, rtol=0, atol=atol)


def test_equals_torchattacks_on_a_random_model(monkeypatch):
    _, images, labels = problem(1, 30)
    images, epsilon, step_size, steps = images.double(), 0.05, 0.01, 8
    net = Noisy(network(0).double(), 0.1)
    theirs = torchattacks.EOTPGD(net, epsilon, step_size, steps, eot_iter=4)
    torch.manual_seed(0)
    expected = theirs(images[0], labels[0])

    torch.manual_seed(0)
    start = images + torch.empty_like(images).uniform_(-epsilon, epsilon)
    monkeypatch.setattr(Threat, "random_start", lambda *_: start.clamp(0, 1))
    for samples in (4, 1):
        net.generator.manual_seed(0)
        attack = EOTPGD(Threat("linf", epsilon), steps, step_size, samples=samples)
        adv = attack.perturb(Loop([net]), images, labels, [0])
        assert torch.allclose(adv[0], expected, rtol=0, atol=1e-7) == (samples == 4)


def test_a_lucky_draw_breaks_nothing():
    images, labels = torch.full((1, 2, 1, 2, 2), 0.5), torch.zeros(1, 2, dtype=torch.int64)

    def found(attack: PGD, answers: str) -> bool:
        """Whether the attack let go of the images, given clean, search and final check."""
        model = Scripted("r" + answers + "r")
        result = attack(model, images, labels, [0])
        assert model.calls == len(model.answers) and result.robust_mask.all()
        return not torch.equal(result.images, images)

    # Two steps of three draws and the last point; only a suspicion is looked into once more.
    eot, pgd = EOTPGD(Threat("linf", 0.1), 2, samples=3), PGD(Threat("linf", 0.1), 2)
    assert found(pgd, "w")
    assert not found(eot, "rrw" + "wrr" + "rwr")
    assert not found(eot, "wwr" + "rrw" + "rrr" + "rrr")
    assert found(eot, "wwr" + "rww")
    assert found(eot, "rrr" + "rrr" + "wrw")


def test_a_mean_gradient_climbs_where_a_single_one_wanders():
    # The noise on the weights is three times as large as they are, and new at every call.
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(25, generator=generator)

    def model(x: Tensor) -> Tensor:
        drawn = weight + 3 * torch.randn(25, generator=generator)
        score = x.flatten(2) @ drawn
        return torch.stack([-score, score], -1) / 100

    images, labels = torch.full((1, 20, 1, 5, 5), 0.5), torch.zeros(1, 20, dtype=torch.int64)
    threat = Threat("linf", 0.1)

    def gain(attack: PGD) -> float:
        """Share of the greatest possible mean gain of the score."""
        adv = attack.perturb(model, images, labels, [0])
        return float(((adv - images).flatten(2) @ weight).mean() / (0.1 * weight.abs().sum()))

    wandering, climbing = gain(PGD(threat, 10)), gain(EOTPGD(threat, 10, samples=50))
    assert wandering < 0.7 and 0.9 < climbing <= 1 + 1e-5
