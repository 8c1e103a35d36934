import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import AttackError, Draws, Threat

BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])


@settings(max_examples=50, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
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
    started = threat.random_start(images, Draws([seed, seed + 1]))
    assert (threat.distance(started, images) <= epsilon + 1e-6 * max(1, epsilon)).all()


@BOTH
def test_random_start_fills_the_ball_uniformly(norm):
    threat = Threat(norm, 0.1)
    images = torch.full((1, 20_000, 1, 1, 2), 0.5)
    delta = (threat.random_start(images, Draws([0])) - images).flatten(2)[0]
    assert delta.mean(0).abs().max() < 2e-3
    # Half the radius holds a quarter of the area, in either norm.
    half = (threat.distance(images + delta.view(images.shape), images) < 0.05).float().mean()
    assert half == pytest.approx(0.25, abs=0.01)


@BOTH
@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e30])
def test_step_has_the_norm_of_its_size_however_small_the_gradient(norm, scale):
    gradient = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scale
    gradient[0, 0] = 0
    move = Threat(norm, 0.1).step(gradient, 0.3)
    lengths = Threat(norm, 0.1).distance(move, torch.zeros_like(move))
    assert lengths[0, 0] == 0
    assert torch.allclose(lengths.flatten()[1:], torch.tensor(0.3))
    assert (move * gradient.sign() >= 0).all()


def test_draws_belong_to_the_network():
    packed, alone = Draws([3, 4, 5]), Draws([5])
    for draw in (Draws.uniform, Draws.normal):
        assert torch.equal(draw(packed, 7, 2)[2:], draw(alone, 7, 2))


@pytest.mark.parametrize(
    ("norm", "epsilon", "message"),
    [
        ("l3", 0.1, r"unknown norm 'l3': did you mean 'l2'\? \(known: linf, l2\)"),
        ("Linf", 0.1, "did you mean 'linf'"),
        ("linf", -0.1, "expected a finite epsilon >= 0, got -0.1"),
        ("linf", float("inf"), "expected a finite epsilon"),
        ("l2", float("nan"), "expected a finite epsilon"),
        ("l2", "8/255", "expected a finite epsilon >= 0, got '8/255'"),
    ],
)
def test_bad_threat(norm, epsilon, message):
    with pytest.raises(AttackError, match=message):
        Threat(norm, epsilon)
