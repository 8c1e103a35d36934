import torch
from torch import Tensor, nn

from attacks import PGD, Threat, adaptive, build, standard
from attacks.adaptive import misleading, randomised
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_eot import Noisy

THREAT = Threat("linf", 0.12)
BRIEF = {"steps": 10, "queries": 5, "schedule": ((10, 100),)}


class Rounded(nn.Module):
    """A net behind an input rounded to a few levels, as JPEG or a thermometer code would."""

    def __init__(self, net: nn.Module, levels: int = 16) -> None:
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * self.levels).round() / self.levels)


class Saturated(nn.Module):
    """A net whose outputs are at the ends of a sigmoid, where floats change no more."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (1000 * self.net(x)).sigmoid()


def test_networks_are_told_apart(digits, kwta):
    net, images, labels = digits
    nets = [net, kwta[0], Rounded(net), Saturated(net), Noisy(net, 0.05)]
    stack, truth, seeds = images.expand(5, *images.shape), labels.expand(5, -1), list(range(5))
    for threat in (THREAT, Threat("l2", 1.0)):
        arguments = threat, Loop(nets), stack, truth, seeds
        assert misleading(*arguments).tolist() == [False, True, True, True, False]
        assert randomised(*arguments).tolist() == [False, False, False, False, True]


def test_kwta_falls(kwta):
    net, images, labels = kwta
    images, labels = images[None, :20], labels[:20]
    model = Loop([net])
    assert PGD(THREAT, steps=50)(model, images, labels, [0]).robust_accuracy > 0.5
    result = adaptive(THREAT, **BRIEF)(model, images, labels, [0])
    assert list(result.masks)[-2:] == ["eot-pgd-10-1", "sampling-gradient"]
    assert torch.equal(result.masks["eot-pgd-10-1"], result.masks["square"])
    assert result.robust_accuracy < 0.25 < result.masks["square"].float().mean()


def test_others_get_the_standard_attacks_alone():
    threat = Threat("linf", 0.02)
    model, images, labels = problem(2, 20)
    calls = [0, 0]

    def counted(x: Tensor) -> Tensor:
        calls[0] += 1
        return model(x)

    ours = adaptive(threat, **BRIEF)(counted, images, labels, [0, 1])
    calls.reverse()
    theirs = standard(threat, steps=10, queries=5)(counted, images, labels, [0, 1])
    assert torch.equal(ours.robust_mask, theirs.robust_mask)
    assert torch.equal(ours.images, theirs.images)
    assert 0 < calls[1] - calls[0] <= 7  # what the tests take


def test_each_network_gets_what_it_alone_would(digits, kwta):
    _, images, labels = kwta
    images, labels = images[:12], labels[:12]
    attack = adaptive(THREAT, steps=4, queries=3, schedule=((4, 40),))
    nets, seeds = [digits[0], kwta[0], kwta[0]], [3, 4, 5]
    stack = images.expand(3, *images.shape)
    packed = attack(Loop(nets), stack, labels, seeds)
    for index, own in enumerate(nets):
        alone = attack(Loop([own]), stack[:1], labels, [seeds[index]])
        assert torch.equal(packed.robust_mask[index], alone.robust_mask[0])


def test_describes_where():
    described = build("adaptive", THREAT).describe()["attacks"]
    assert [part["where"] for part in described[-2:]] == ["randomised", "misleading"]
    assert described[-1]["schedule"] == ((20, 100), (20, 1000))
