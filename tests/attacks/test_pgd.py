import pytest
import torch
import torchattacks

from attacks import FGSM, PGD, PerNetworkRNG, RandomFGSM, Threat
from tests.attacks.conformance import Loop, network, problem
from tests.attacks.test_linear import linear


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.02), ("l2", 0.1), ("l1", 0.3)])
def test_more_steps_never_raise_robust_accuracy(norm, epsilon):
    threat = Threat(norm, epsilon)
    model, images, labels = problem(2, 50)
    results = [
        PGD(threat, steps=steps, step_size=threat.epsilon / 4)(model, images, labels, [0, 1])
        for steps in (1, 2, 4, 8, 16)
    ]
    for fewer, more in zip(results, results[1:], strict=False):
        assert (more.robust_mask <= fewer.robust_mask).all()
    assert results[-1].robust_mask.sum() < results[0].robust_mask.sum()


@pytest.mark.parametrize("random_start", [False, True])
def test_equals_torchattacks(monkeypatch, random_start):
    # In double precision, where no gradient is small enough for rounding to turn its sign.
    _, images, labels = problem(1, 40)
    net, images = network(0).double(), images.double()
    epsilon, step_size, steps = 0.05, 0.01, 15
    theirs = torchattacks.PGD(net, epsilon, step_size, steps, random_start=random_start)
    torch.manual_seed(0)
    expected = theirs(images[0], labels[0])

    torch.manual_seed(0)
    start = images + torch.empty_like(images).uniform_(-epsilon, epsilon)
    monkeypatch.setattr(Threat, "random_start", lambda *_: start.clamp(0, 1))
    attack = PGD(Threat("linf", epsilon), steps, step_size, random_start=random_start)
    adv = attack.perturb(Loop([net]), images, labels, [0])
    assert torch.allclose(adv[0], expected, rtol=0, atol=1e-7)


def test_equals_torchattacks_in_l2():
    _, images, labels = problem(1, 40)
    net, images = network(0).double(), images.double()
    theirs = torchattacks.PGDL2(net, eps=0.3, alpha=0.05, steps=15, random_start=False)
    adv = PGD(Threat("l2", 0.3), 15, 0.05, random_start=False).perturb(
        Loop([net]), images, labels, [0]
    )
    assert torch.allclose(adv[0], theirs(images[0], labels[0]), rtol=0, atol=1e-7)


def test_a_random_start_freezes_no_pixel():
    # Half of the pixels of an MNIST image are exactly 0 or 1, and half of those start out of range.
    images = (torch.arange(28 * 28).view(1, 1, 1, 28, 28) % 2).float()
    inward = 1 - 2 * images.flatten()
    weight = torch.stack([-inward, inward]) / 1000  # small, or the soft-max would saturate
    model = Loop([linear(weight, torch.zeros(2))])
    threat, labels = Threat("linf", 0.3), torch.zeros(1, 1, dtype=torch.int64)
    start = threat.random_start(images, PerNetworkRNG([0]))
    assert 0.4 < (start == images).float().mean() < 0.6
    stepped = PGD(threat, steps=1, step_size=0.1).perturb(model, images, labels, [0])
    assert torch.allclose((stepped - images).abs(), ((start - images).abs() + 0.1).clamp(max=0.3))


def test_random_fgsm_is_the_step_of_fbf():
    model, images, labels = problem(2, 10)
    threat, seeds = Threat("linf", 0.1), [0, 1]
    # As published for MNIST: the start is not clipped to [0, 1], only the end is.
    delta = threat.random_offset(images, PerNetworkRNG(seeds))
    assert ((images + delta) < 0).any() and delta.abs().max() <= 0.1
    start = (images + delta).requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(start).flatten(0, 1), labels.flatten())
    (gradient,) = torch.autograd.grad(loss, start)
    delta = (start - images + 1.25 * 0.1 * gradient.sign()).clamp(-0.1, 0.1)
    expected = (images + delta).clamp(0, 1)
    adv = RandomFGSM(threat).perturb(model, images, labels, seeds)
    assert torch.allclose(adv, expected, rtol=0, atol=1e-6)


def test_fgsm_is_one_step_of_epsilon():
    model, images, labels = problem(1, 10)
    threat = Threat("linf", 0.1)
    one = PGD(threat, steps=1, step_size=0.1, random_start=False)
    assert torch.equal(
        FGSM(threat).perturb(model, images, labels, [0]), one.perturb(model, images, labels, [0])
    )
    assert FGSM(threat).describe()["step_size"] == 0.1


def test_forward_passes():
    # One forward and one backward pass a step; `perturb` evaluates nothing.
    model, images, labels = problem(1, 4)
    labels = model(images).argmax(-1)
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape[1])
        return model(x)

    PGD(Threat("linf", 0.1), steps=7).perturb(counted, images, labels, [0])
    assert len(calls) == 7
    calls.clear()
    PGD(Threat("linf", 1e-6), steps=7, restarts=2)(counted, images, labels, [0])
    assert len(calls) == 1 + 2 * 8 + 1, "clean, steps and last point of each restart, final check"


def test_names_and_default_step():
    attack = PGD(Threat("linf", 0.1), steps=50, restarts=10)
    assert attack.name == "pgd-50-10" and attack.size == pytest.approx(0.005)
    assert PGD(Threat("linf", 0.1), loss="margin").name == "pgd-margin-50-1"
