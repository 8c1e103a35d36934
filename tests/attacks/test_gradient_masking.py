"""Networks whose gradient misleads: what follows it is fooled, what samples values is not."""

import pytest
from torch import Tensor

from attacks import PGD, RayS, SamplingGradient, Square, Threat
from tests.attacks.conformance import problem


def test_kwta_fools_pgd_only(kwta):
    net, images, labels = kwta
    threat = Threat("linf", 0.12)

    def figure(attack) -> float:
        return float(attack(lambda x: net(x[0])[None], images[None], labels, [0]).robust_accuracy)

    assert figure(PGD(threat, steps=20)) > 0.65
    assert figure(PGD(threat, steps=20, loss="margin")) > 0.65
    assert figure(SamplingGradient(threat, schedule=((10, 100),))) < 0.25
    assert figure(RayS(threat, queries=300)) < 0.25


@pytest.mark.parametrize(
    "attack",
    [
        SamplingGradient(Threat("linf", 0.08), schedule=((10, 100),)),
        Square(Threat("linf", 0.08), queries=300),
        RayS(Threat("linf", 0.08), queries=400),
    ],
    ids=lambda attack: attack.name,
)
def test_without_a_gradient_only_attacks_without_one_find_anything(attack):
    smooth, images, _ = problem(1, 40)
    labels = smooth(images).argmax(-1)
    through = PGD(attack.threat, steps=20)(smooth, images, labels, [0]).robust_mask

    def quantised(x: Tensor) -> Tensor:
        return smooth((x * 32).round() / 32)

    labels = quantised(images).argmax(-1)
    pgd = PGD(attack.threat, steps=20, random_start=False)
    assert pgd(quantised, images, labels, [0]).robust_mask.all()
    robust = attack(quantised, images, labels, [0]).robust_mask
    # As many as PGD breaks of the network without the quantisation, or nearly.
    assert robust.sum() <= through.sum() + 2 < 20
