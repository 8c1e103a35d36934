"""Networks whose gradient misleads: what follows it is fooled, what samples values is not."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from attacks import PGD, Boundary, SamplingGradient, Square, Threat
from tests.attacks.conformance import problem


class KWTA(nn.Module):
    """Keeps the largest share of an image's activations and zeroes the rest (Xiao et al. 2020)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        least = x.topk(int(self.share * x.shape[1])).values[:, -1:]
        return x * (x >= least)


@pytest.fixture(scope="module")
def kwta():
    """A k-WTA net trained on scikit-learn's digits, and images it never saw with labels."""
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = [nn.Linear(64, 512), KWTA(0.05), nn.Linear(512, 512), KWTA(0.05)]
        net = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(6):
            for batch in torch.randperm(1400).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    return net.eval(), images[1400:1460], labels[1400:1460]


def test_kwta_fools_pgd_only(kwta):
    net, images, labels = kwta
    threat = Threat("linf", 0.12)

    def figure(attack) -> float:
        return float(attack(lambda x: net(x[0])[None], images[None], labels, [0]).robust_accuracy)

    assert figure(PGD(threat, steps=20)) > 0.65
    assert figure(PGD(threat, steps=20, loss="margin")) > 0.65
    assert figure(SamplingGradient(threat, schedule=((10, 100),))) < 0.25
    assert figure(Boundary(threat, queries=300)) < 0.25


@pytest.mark.parametrize(
    "attack",
    [
        SamplingGradient(Threat("linf", 0.08), schedule=((10, 100),)),
        Square(Threat("linf", 0.08), queries=300),
        Boundary(Threat("linf", 0.08), queries=400),
    ],
    ids=lambda attack: attack.name,
)
def test_without_a_gradient_only_attacks_without_one_find_anything(attack):
    smooth, images, _ = problem(1, 40)
    labels = smooth(images).argmax(-1)
    through = PGD(attack.threat, steps=20)(smooth, images, labels, [0]).correct

    def quantised(x: Tensor) -> Tensor:
        return smooth((x * 32).round() / 32)

    labels = quantised(images).argmax(-1)
    pgd = PGD(attack.threat, steps=20, random_start=False)
    assert pgd(quantised, images, labels, [0]).correct.all()
    left = attack(quantised, images, labels, [0]).correct
    # As many as PGD breaks of the network without the quantisation, or nearly.
    assert left.sum() <= through.sum() + 2 < 20
