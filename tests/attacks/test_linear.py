"""Linear classifiers, where the strongest attack is known in closed form."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from attacks import (
    APGD,
    EOTPGD,
    PGD,
    MomentumFGSM,
    RayS,
    SamplingGradient,
    Square,
    Threat,
    build,
)
from attacks.threat import NORMS
from tests.attacks.conformance import LIMITED, Loop

FEATURES = 25
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
EPSILON = {"linf": 0.05, "l2": 0.3, "l1": 0.35}
ALL = pytest.mark.parametrize("norm", NORMS)


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight, bias
    return nn.Sequential(nn.Flatten(), layer)


def grey_images(networks: int, batch: int, generator: torch.Generator) -> torch.Tensor:
    """Images so far from 0 and 1 that the box never binds."""
    return 0.4 + 0.2 * torch.rand(networks, batch, 1, 5, 5, generator=generator)


@ALL
def test_pgd_reaches_the_optimum(norm):
    generator = torch.Generator().manual_seed(0)
    threat = Threat(norm, EPSILON[norm])
    weight = torch.randn(2, FEATURES, generator=generator)
    images = grey_images(1, 50, generator)
    model = Loop([linear(weight, torch.zeros(2))])
    labels = torch.zeros(1, 50, dtype=torch.int64)
    adv = PGD(threat, steps=20, step_size=threat.epsilon).perturb(model, images, labels, [0])
    gain = (model(adv) - model(images)) @ torch.tensor([-1.0, 1.0])
    best = threat.epsilon * (weight[1] - weight[0]).norm(p=DUAL[norm])
    assert torch.allclose(gain, best, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "norm"),
    [
        *product([partial(PGD, step_size=0.3), APGD], NORMS),
        *product([partial(EOTPGD, step_size=0.3, samples=2)], NORMS),
        *product([MomentumFGSM], ["linf", "l2"]),
    ],
)
def test_breaks_exactly_what_can_be_broken(make, norm):
    # Network i's bias leaves its only image just short of, or just within, the threat's reach.
    generator = torch.Generator().manual_seed(1)
    networks, threat = 16, Threat(norm, EPSILON[norm])
    images = grey_images(networks, 1, generator)
    breakable = torch.arange(networks) % 2 == 0
    nets = []
    for image, reached in zip(images, breakable, strict=True):
        weight = torch.randn(2, FEATURES, generator=generator)
        normal = weight[1] - weight[0]
        reach = normal @ image.flatten() + threat.epsilon * normal.norm(p=DUAL[norm])
        nets.append(linear(weight, torch.stack([reach - (1e-3 if reached else -1e-3), reach * 0])))
    labels = torch.zeros(networks, 1, dtype=torch.int64)
    result = make(threat, steps=30)(Loop(nets), images, labels, range(networks))
    assert torch.equal(~result.robust_mask.flatten(), breakable)


def test_square_comes_near_the_optimum_and_never_beyond_it():
    generator = torch.Generator().manual_seed(4)
    images = grey_images(1, 20, generator)
    weight = torch.randn(2, FEATURES, generator=generator)
    model = Loop([linear(weight, torch.zeros(2))])
    labels = torch.zeros(1, 20, dtype=torch.int64)
    for norm, share in (("linf", 0.99), ("l2", 0.65), ("l1", 0.6)):
        threat = Threat(norm, EPSILON[norm])
        adv = Square(threat, queries=500).perturb(model, images, labels, [0])
        gain = (model(adv) - model(images)) @ torch.tensor([-1.0, 1.0])
        best = threat.epsilon * (weight[1] - weight[0]).norm(p=DUAL[norm])
        assert (gain <= best * (1 + 1e-4)).all() and gain.mean() > share * best


def best_in_l1(image: torch.Tensor, normal: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Most that `normal` can gain within epsilon of `image`, both [D], and [0, 1]: greedily."""
    gain = torch.tensor(0.0)
    for i in normal.abs().argsort(descending=True):
        move = min(epsilon, float(1 - image[i] if normal[i] > 0 else image[i]))
        gain, epsilon = gain + move * normal[i].abs(), epsilon - move
    return gain


def test_pgd_comes_near_the_l1_optimum_where_the_box_binds():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, FEATURES, generator=generator) / 10
    images = (2 * torch.rand(1, 20, 1, 5, 5, generator=generator) - 0.5).clamp(0, 1)
    model = Loop([linear(weight, torch.zeros(2))])
    labels = torch.zeros(1, 20, dtype=torch.int64)
    for epsilon in (0.5, 2.0):
        threat = Threat("l1", epsilon)
        best = torch.stack(
            [best_in_l1(image.flatten(), weight[1] - weight[0], epsilon) for image in images[0]]
        )
        attack = PGD(threat, steps=50, step_size=epsilon / 5)
        adv = attack.perturb(model, images, labels, [0])
        gain = ((model(adv) - model(images)) @ torch.tensor([-1.0, 1.0]))[0]
        assert (gain <= best + 1e-5).all()
        # Were pixels pushed on that are at their end already, it would be a third at epsilon 2.
        assert (gain / best).mean() > 0.95


@pytest.mark.parametrize(
    ("make", "near", "norm"),
    [
        (partial(SamplingGradient, schedule=((10, 100), (5, 1000))), 0.95, "linf"),
        (partial(SamplingGradient, schedule=((10, 100), (5, 1000))), 0.95, "l2"),
        (partial(RayS, queries=400), 0.998, "linf"),
    ],
)
def test_without_a_gradient_comes_near_the_optimum(make, near, norm):
    # As above: the bias takes a share of the reach just short of 1, or just above.
    generator = torch.Generator().manual_seed(3)
    networks, threat = 16, Threat(norm, EPSILON[norm])
    images = grey_images(networks, 1, generator)
    breakable = torch.arange(networks) % 2 == 0
    nets = []
    for image, reached in zip(images, breakable, strict=True):
        weight = torch.randn(2, FEATURES, generator=generator)
        normal = weight[1] - weight[0]
        share = near if reached else 1.001
        lead = normal @ image.flatten() + share * threat.epsilon * normal.norm(p=DUAL[norm])
        nets.append(linear(weight, torch.stack([lead, lead * 0])))
    labels = torch.zeros(networks, 1, dtype=torch.int64)
    result = make(threat)(Loop(nets), images, labels, range(networks))
    assert torch.equal(~result.robust_mask.flatten(), breakable)


@ALL
def test_many_classes(norm):
    generator = torch.Generator().manual_seed(2)
    threat = Threat(norm, EPSILON[norm] / 10)
    weight = torch.randn(5, FEATURES, generator=generator)
    images = grey_images(1, 200, generator)
    model = Loop([linear(weight, -weight.sum(1) / 2)])
    logits = model(images).detach()
    labels = logits.argmax(-1)
    # Class j wins at best by z_j - z_y + epsilon ||w_j - w_y||.
    reach = threat.epsilon * (weight[:, None] - weight).norm(p=DUAL[norm], dim=-1)
    gaps = logits - logits.max(-1, keepdim=True).values + reach[labels]
    robust = (gaps.scatter(-1, labels[..., None], -torch.inf) < 0).all(-1)
    assert 0.2 < robust.float().mean() < 0.8

    def correct(name: str, **options) -> torch.Tensor:
        return build(name, threat, **options)(model, images, labels, [0]).robust_mask

    targeted = {"steps": 20, "step_size": threat.epsilon, "loss": "targeted", "restarts": 4}
    assert torch.equal(correct("pgd", **targeted), robust)
    for name, options in {
        "fgsm": {},
        "random-fgsm": {},
        "pgd": {"steps": 20},
        "mi-fgsm": {},
        "eot-pgd": {"steps": 20, "samples": 2},
        "noise": {},
        "sampling-gradient": {"schedule": ((10, 50),)},
        "apgd-ce": {"steps": 20},
        "apgd-dlr": {"steps": 20},
        "apgd-t": {"steps": 20},
        "fab-t": {"steps": 10},
        "square": {"queries": 100},
        "rays": {"queries": 100},
    }.items():
        if norm not in LIMITED.get(name, NORMS):
            continue
        found = correct(name, **options)
        assert (found >= robust).all(), f"{name} broke what cannot be broken"
        if name in ("apgd-t", "fab-t"):  # the others run after the likeliest wrong class alone
            assert (found ^ robust).float().mean() <= 0.01, f"{name} missed what it should find"
