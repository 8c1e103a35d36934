"""How far images are from the nearest other class, where that is known, and what attacks find."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from attacks import (
    Attack,
    Model,
    Threat,
)
from tests.attacks.conformance import Loop
from tests.attacks.test_linear import DUAL, linear

CLASSES = 6
FEATURES = 25
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])
ALL = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
BOX = {"linf": Threat("linf", 1.0), "l2": Threat("l2", 100.0), "l1": Threat("l1", 100.0)}
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


def way_within_the_box(norm: str, point: Tensor, normal: Tensor, gap: float) -> np.ndarray | None:
    """The shortest way from the point to where gap + normal * way = 0 in [0, 1], by scipy."""
    x, w = (values.double().flatten().numpy() for values in (point, normal))
    size = len(x)
    # The way, then its lengths, one for all pixels or in l1 one for each: way <= length and
    # -way <= length for every pixel.
    lengths = np.eye(size) if norm == "l1" else np.ones((size, 1))
    count = lengths.shape[1]
    linear = linprog(
        c=np.append(np.zeros(size), np.ones(count)),
        A_ub=np.block([[np.eye(size), -lengths], [-np.eye(size), -lengths]]),
        b_ub=np.zeros(2 * size),
        A_eq=np.append(w, np.zeros(count))[None],
        b_eq=[-gap],
        bounds=[*zip(-x, 1 - x, strict=True), *[(0, None)] * count],
    )
    if linear.status == 2:  # nowhere in the box
        return None
    if norm != "l2":
        return linear.x[:size]
    return minimize(
        lambda way: way @ way,
        linear.x[:size],
        jac=lambda way: 2 * way,
        bounds=[*zip(-x, 1 - x, strict=True)],
        constraints={"type": "eq", "fun": lambda way: w @ way + gap, "jac": lambda way: w},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    ).x


def boxed(batch: int, generator: torch.Generator) -> Tensor:
    """Images of which a third of the pixels are 0 or 1, [1,B,1,5,5]."""
    return (1.5 * torch.rand(1, batch, 1, 5, 5, generator=generator) - 0.25).clamp(0, 1)


def exact_within_the_box(
    weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor, norm: str
) -> Tensor:
    """How far each image is from the nearest other class, [1,B], by scipy."""
    nearest = []
    for image, label in zip(images[0], labels[0], strict=True):
        logits = weight @ image.flatten() + bias
        ways = [
            way_within_the_box(norm, image, weight[k] - weight[label], float(z - logits[label]))
            for k, z in enumerate(logits)
            if k != label
        ]
        nearest.append(min(np.linalg.norm(way, ORDER[norm]) for way in ways if way is not None))
    return torch.tensor(np.array(nearest), dtype=torch.float32)[None]


def found_at(attack: Attack, norm: str, model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """How far the examples are that the attack finds, one for every image, [P,B]."""
    result = attack(model, images, labels, [0])
    assert not result.robust_mask.any()
    return Threat(norm, 0.0).distance(result.images, images)


def nearest_visited(
    make: Callable[[Threat], Attack], norm: str, model: Model, images: Tensor, labels: Tensor
) -> Tensor:
    """How far the nearest example is that the attack comes upon, where it never stops, [P,B]."""
    nearest = torch.full(labels.shape, torch.inf)

    def watched(x: Tensor) -> Tensor:
        logits = model(x)
        distance = Threat(norm, 0.0).distance(x.detach(), images)
        nearest[:] = nearest.where(logits.argmax(-1) == labels, nearest.minimum(distance))
        return logits

    make(Threat(norm, 0.0))(watched, images, labels, [0])
    return nearest
