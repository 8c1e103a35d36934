"""FAB: to the nearest boundary, where that one is known."""

from functools import partial

import numpy as np
import pytest
import torch
import torchattacks
from scipy.optimize import root_scalar
from torch import Tensor

from attacks import (
    TargetedFAB,
    Threat,
)
from attacks.fab import to_hyperplane
from tests.attacks.exact_distances import (
    ALL,
    BOTH,
    FEATURES,
    ORDER,
    affine,
    boxed,
    closed_form,
    exact_within_the_box,
    nearest_visited,
    way_within_the_box,
)
from tests.attacks.test_linear import grey_images


@ALL
def test_fab_follows_the_boundary_to_the_nearest_point(norm):
    images = grey_images(1, 50, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    nearest = nearest_visited(partial(TargetedFAB, steps=5), norm, model, images, labels)
    # It goes 5 % too far, then back, then too far by 5 % of a tenth.
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.007).all()
    # Class after class: the likeliest alone will not do.
    likeliest = partial(TargetedFAB, steps=5, targets=1)
    nearest = nearest_visited(likeliest, norm, model, images, labels)
    assert (nearest > 1.05 * exact).float().mean() > 0.1


@ALL
def test_fab_follows_the_boundary_within_the_box(norm):
    images = boxed(15, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = exact_within_the_box(weight, bias, images, labels, norm)
    free = closed_form(weight, bias, images, labels, norm)
    assert (exact > 1.01 * free).float().mean() > 0.3, "the box hardly binds"
    nearest = nearest_visited(partial(TargetedFAB, steps=20), norm, model, images, labels)
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.01).all()


@ALL
def test_fab_stops_at_an_example_within_epsilon(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    epsilon = float(exact.median())
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return model(x)

    found = TargetedFAB(Threat(norm, epsilon), steps=5)(counted, images, labels, [0])
    assert (found.robust_mask | (exact <= epsilon)).all()
    assert (~found.robust_mask | (exact > epsilon / 1.007)).all()
    # Half of the images go, and are not in the work of the last target.
    assert sizes[1] == 100 and sizes[-2] == found.robust_mask.sum() < 60


@BOTH
def test_fab_comes_as_near_as_that_of_torchattacks(digits, norm):
    net, images, labels = digits
    images, labels = images[:50], net(images[:50]).argmax(-1)
    theirs = torchattacks.FAB(net, norm.capitalize(), steps=10, multi_targeted=True)
    theirs.target_class = 2  # the second likeliest class
    examples = theirs.attack_single_run_targeted(images, labels)
    expected = Threat(norm, 0.0).distance(examples[None], images[None])
    nearest = nearest_visited(
        partial(TargetedFAB, steps=10, targets=1),
        norm,
        lambda x: net(x[0])[None],
        images[None],
        labels[None],
    )
    assert torch.allclose(nearest, expected, rtol=1e-3, atol=1e-5)


def test_fab_follows_a_boundary_that_curves():
    images = grey_images(1, 50, torch.Generator().manual_seed(1))
    squeeze, level = torch.linspace(1, 4, FEATURES), 0.5

    def ellipsoid(x: Tensor) -> Tensor:
        inside = level - (squeeze * (x.flatten(2) - 0.5).square()).sum(-1)
        return torch.stack([inside, 0 * inside], -1)

    def distance(image: Tensor) -> float:
        # By Lagrange, the way is longer by 1 / (1 - m squeeze), with the least m that suffices.
        a, way = squeeze.double().numpy(), (image - 0.5).double().flatten().numpy()
        excess = lambda m: (a * (way / (1 - m * a)) ** 2).sum() - level  # noqa: E731
        m = root_scalar(excess, bracket=(0, (1 - 1e-9) / a.max())).root
        return float(np.linalg.norm(way / (1 - m * a) - way))

    exact = torch.tensor([[distance(image) for image in images[0]]])
    labels = torch.zeros(1, 50, dtype=torch.int64)
    nearest = nearest_visited(partial(TargetedFAB, steps=20), "l2", ellipsoid, images, labels)
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.015).all()


@ALL
def test_ways_to_a_hyperplane_are_the_shortest_there_are(norm):
    generator = torch.Generator().manual_seed(0)
    points = boxed(40, generator)
    normals = torch.randn(points.shape, generator=generator)
    normals[torch.rand(points.shape, generator=generator) < 0.1] = 0
    gaps = 4 * torch.randn(1, 40, generator=generator)
    ways = to_hyperplane(norm, points, normals, gaps)
    assert (points + ways).min() >= 0 and (points + ways).max() <= 1
    nowhere = 0
    for point, normal, gap, way in zip(points[0], normals[0], gaps[0], ways[0], strict=True):
        exact = way_within_the_box(norm, point, normal, float(gap))
        if exact is None:
            nowhere += 1
            corner = (normal * gap < 0).float()
            assert torch.allclose((point + way)[normal != 0], corner[normal != 0], atol=1e-6)
            continue
        assert abs(gap + (normal * way).sum()) < 1e-4
        length = Threat(norm, 0.0).distance(way[None, None], torch.zeros(1, 1, 1, 5, 5))
        assert float(length) == pytest.approx(np.linalg.norm(exact, ORDER[norm]), rel=1e-3)
    assert 0 < nowhere < 20


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e30])
@ALL
def test_ways_to_a_hyperplane_know_no_scale(norm, scale):
    generator = torch.Generator().manual_seed(0)
    points = boxed(10, generator)
    normals = torch.randn(points.shape, generator=generator)
    gaps = 2 * torch.randn(1, 10, generator=generator)
    ways = to_hyperplane(norm, points, normals, gaps)
    scaled = to_hyperplane(norm, points, normals * scale, gaps * scale)
    assert torch.allclose(scaled, ways, rtol=0, atol=1e-3)
    for nothing in (to_hyperplane(norm, points, 0 * normals, g) for g in (gaps, 0 * gaps)):
        assert not nothing.any()
