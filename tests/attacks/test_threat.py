import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import AttackError, PerNetworkRNG, Threat

ALL = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])


@settings(max_examples=50, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    epsilon=st.floats(0, 20),
    far=st.sampled_from([0, 1e-30, 0.1, 10.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_project_lands_in_the_threat_and_leaves_what_is_in_it(norm, epsilon, far, seed):
    threat = Threat(norm, epsilon)
    generator = torch.Generator().manual_seed(seed)
    images = (2 * torch.rand(2, 3, 1, 4, 4, generator=generator) - 0.5).clamp(0, 1)
    inside = threat.project(images + far * torch.randn(images.shape, generator=generator), images)
    assert (threat.distance(inside, images) <= epsilon + 1e-6 * max(1, epsilon)).all()
    assert inside.min() >= 0 and inside.max() <= 1
    again = threat.project(inside, images)
    assert torch.allclose(again, inside, rtol=0, atol=1e-6)
    started = threat.random_start(images, PerNetworkRNG([seed, seed + 1]))
    assert (threat.distance(started, images) <= epsilon + 1e-6 * max(1, epsilon)).all()


@ALL
def test_a_point_inside_stays_as_it_is_to_the_last_bit(norm):
    generator = torch.Generator().manual_seed(0)
    images = (2 * torch.rand(2, 50, 1, 4, 4, generator=generator) - 0.5).clamp(0, 1)
    for epsilon in (0.0, 1e-8, 0.1, 10.0):
        threat = Threat(norm, epsilon)
        points = threat.random_start(images, PerNetworkRNG([0, 1]))
        points = torch.where(threat.contains(points, images)[..., None, None, None], points, images)
        assert epsilon == 0 or not torch.equal(points, images)
        assert torch.equal(threat.project(points, images), points)
        raw = images + torch.randn(images.shape, generator=generator)
        if epsilon == 0:
            assert torch.equal(threat.project(raw, images), images)


def nearest_by_bisection(adv: np.ndarray, image: np.ndarray, epsilon: float) -> np.ndarray:
    """The nearest point of l1 ball and box, all in float64 and [D].

    The Lagrangian's minimum for a multiplier s is soft thresholding and then the box; s is the
    least at which the ball holds.
    """

    def solution(slack: float) -> np.ndarray:
        delta = adv - image
        return np.clip(image + np.sign(delta) * np.maximum(np.abs(delta) - slack, 0), 0, 1)

    low, high = 0.0, float(np.abs(adv - image).max())
    if np.abs(solution(low) - image).sum() <= epsilon:
        return solution(low)
    for _ in range(200):
        middle = (low + high) / 2
        if np.abs(solution(middle) - image).sum() > epsilon:
            low = middle
        else:
            high = middle
    return solution(high)


@settings(max_examples=50, deadline=None)
@given(
    epsilon=st.sampled_from([1e-9, 1e-3, 0.3, 2.0, 12.0]),
    far=st.sampled_from([1e-6, 0.05, 1.0, 1e3, 1e6]),
    side=st.integers(1, 9),
    whole=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_l1_projection_finds_the_nearest_point(epsilon, far, side, whole, seed):
    generator = torch.Generator().manual_seed(seed)
    images = (2 * torch.rand(1, 4, 1, side, side, generator=generator) - 0.5).clamp(0, 1)
    move = far * torch.randn(images.shape, generator=generator)
    # Multiples of far / 2 make ties among the entries.
    adv = images + (torch.round(2 * move / far) * far / 2 if whole else move)
    found = Threat("l1", epsilon).project(adv, images)
    own, points, images = (x[0].double().flatten(1).numpy() for x in (found, adv, images))
    for i, point in enumerate(own):
        expected = nearest_by_bisection(points[i], images[i], epsilon)
        assert np.abs(point - expected).max() < 2e-7


def test_no_point_of_the_l1_threat_is_nearer_than_the_projection():
    generator = torch.Generator().manual_seed(0)
    images = (2 * torch.rand(1, 200, 1, 5, 5, generator=generator) - 0.5).clamp(0, 1).double()
    threat = Threat("l1", 1.5)
    adv = images + torch.randn(images.shape, generator=generator)
    nearest = threat.project(adv, images)
    assert (threat.distance(nearest, images) >= 1.5 - 1e-9).all()
    # A convex set has its nearest point p to a where no z of it has (a - p)(z - p) > 0. Among its
    # points are those that differ from the image, or from p, in one or two entries.
    for others in range(40):
        points = threat.random_start(images, PerNetworkRNG([others]))
        few = torch.rand(images.shape, generator=generator).double()
        few = few * (few >= few.flatten(2).topk(2).values[..., -1:, None, None])
        corners = threat.project(images + 3 * few * (adv - images).sign(), images)
        for point in (points, corners, (corners + nearest) / 2):
            assert ((adv - nearest) * (point - nearest)).sum((2, 3, 4)).max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [1e-38, 1e-20, 1e12, 1e30])
def test_l1_projection_of_tiny_and_huge_moves(dtype, far):
    generator = torch.Generator().manual_seed(0)
    images = (2 * torch.rand(2, 10, 3, 8, 8, generator=generator) - 0.5).clamp(0, 1).to(dtype)
    adv = images + far * torch.randn(images.shape, generator=generator).to(dtype)
    for epsilon in (0.0, 1e-30, 0.5, 1000.0):
        threat = Threat("l1", epsilon)
        found = threat.project(adv, images)
        assert found.dtype == dtype and found.min() >= 0 and found.max() <= 1
        assert (threat.distance(found, images) <= epsilon + 1e-6).all()


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 12.0])
def test_hundreds_of_rounded_moves_stay_within_l1(epsilon):
    # In float32 every entry is rounded. Not towards the image, they would add up to 7e-6 too much.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 20, 3, 32, 32, generator=generator)
    move = torch.randn(images.shape, generator=generator) * epsilon / 300
    threat = Threat("l1", epsilon)
    found = threat.project(images + move, images)
    distance = (found.double() - images.double()).abs().sum((2, 3, 4))
    assert ((epsilon - 3e-4 <= distance) & (distance <= epsilon)).all()
    assert threat.contains(found, images).all()


@ALL
def test_random_start_fills_the_ball_uniformly(norm):
    threat = Threat(norm, 0.1)
    images = torch.full((1, 20_000, 1, 1, 2), 0.5)
    delta = (threat.random_start(images, PerNetworkRNG([0])) - images).flatten(2)[0]
    assert delta.mean(0).abs().max() < 2e-3
    mean = {"linf": 1 / 2, "l2": 4 / (3 * math.pi), "l1": 1 / 3}[norm]
    assert delta.abs().mean(0).sub(0.1 * mean).abs().max() < 5e-4
    # Half the radius holds a quarter of the area, in any norm.
    half = (threat.distance(images + delta.view(images.shape), images) < 0.05).float().mean()
    assert half == pytest.approx(0.25, abs=0.01)


@ALL
@pytest.mark.parametrize("size", [0.3, 4.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-42, 1e-37, 1.0, 1e30])
def test_step_has_the_norm_of_its_size_however_small_the_gradient(norm, scale, size):
    gradient = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scale
    gradient[0, 0] = 0
    move = Threat(norm, 0.1).step(gradient, size)
    lengths = Threat(norm, 0.1).distance(move, torch.zeros_like(move))
    assert lengths[0, 0] == 0
    assert torch.allclose(lengths.flatten()[1:], torch.tensor(size))
    assert (move * gradient.sign() >= 0).all()


def test_l1_step_changes_the_entries_of_greatest_gradient_alike():
    gradient = torch.randn(2, 3, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    threat = Threat("l1", 0.1)
    share = torch.tensor([[0.0, 0.014, 0.016], [0.2, 0.996, 1.0]])
    expected = torch.tensor([[1, 1, 2], [20, 100, 100]])
    for move, count in (
        (threat.step(gradient, 0.3, share), expected),
        (threat.step(gradient, 0.3, 0.05), torch.full((2, 3), 5)),
        (threat.step(gradient, 0.3), torch.ones(2, 3)),
    ):
        changed = move != 0
        assert torch.equal(changed.sum((2, 3, 4)), count.long())
        sizes = 0.3 / count[..., None, None, None] * gradient.sign()
        assert torch.allclose(move, sizes * changed)
        least = gradient.abs().where(changed, torch.inf).amin((2, 3, 4))
        assert (gradient.abs().where(~changed, 0).amax((2, 3, 4)) < least).all()
    # Ties are all as good, and where there is no gradient nothing is to be gained.
    flat = torch.zeros(1, 1, 1, 10, 10)
    flat[..., :3, 0] = -2
    assert torch.allclose(threat.step(flat, 0.3), flat / 2 * 0.1)
    assert torch.allclose(threat.step(flat, 0.3, 0.5), flat / 2 * 0.1)


def test_random_numbers_belong_to_the_network():
    packed, alone = PerNetworkRNG([3, 4, 5]), PerNetworkRNG([5])
    for draw in (PerNetworkRNG.uniform, PerNetworkRNG.normal):
        assert torch.equal(draw(packed, 7, 2)[2:], draw(alone, 7, 2))


@pytest.mark.parametrize(
    ("norm", "epsilon", "message"),
    [
        ("l3", 0.1, "unknown norm 'l3'; known: linf, l2, l1"),
        ("Linf", 0.1, "unknown norm 'Linf'; known: linf, l2, l1"),
        ("linf", -0.1, "expected a finite epsilon >= 0, got -0.1"),
        ("linf", float("inf"), "expected a finite epsilon"),
        ("l2", float("nan"), "expected a finite epsilon"),
        ("l2", "8/255", "expected a finite epsilon >= 0, got '8/255'"),
        ("l2", True, "expected a finite epsilon >= 0, got True"),
        ("l2", None, "expected a finite epsilon >= 0, got None"),
    ],
)
def test_bad_threat(norm, epsilon, message):
    with pytest.raises(AttackError, match=message):
        Threat(norm, epsilon)
