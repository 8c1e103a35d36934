import math

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.models.latent import (
    Latent,
    cdf,
    draw_beta,
    draw_preferences,
    encode_beta,
    encode_weights,
    preference_weights,
    simplex_basis,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_beta_is_a_quarter_of_the_unit_circle():
    beta = torch.tensor([0.0, 0.25, 0.5, 1.0])
    code = encode_beta(beta)
    half = math.sqrt(0.5)
    torch.testing.assert_close(code[[0, 2, 3]], torch.tensor([[1.0, 0], [half, half], [0, 1]]))
    torch.testing.assert_close(code.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(torch.atan2(code[:, 1], code[:, 0]) / (math.pi / 2), beta)


def test_preferences_lie_in_their_range_and_weigh_to_1():
    beta = draw_beta(1000, (0.2, 0.6), rng())
    assert 0.2 <= beta.min() < 0.22 and 0.58 < beta.max() <= 0.6
    assert draw_beta(3, (0.5, 0.5), rng()).tolist() == [0.5] * 3
    law = draw_beta(10_000, (0.2, 0.6), rng())
    for share in (0.1, 0.5, 0.75):  # arcsine
        below = float((law < 0.2 + 0.4 * share).float().mean())
        assert below == pytest.approx(2 / math.pi * math.asin(share**0.5), abs=0.02)
        (expected,) = cdf(torch.tensor([0.2 + 0.4 * share]), (0.2, 0.6))
        assert below == pytest.approx(float(expected), abs=0.02)
    ends = cdf(torch.tensor([0.2, 0.6]), (0.2, 0.6))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-3)
    weights = preference_weights(beta, TrainConfig())
    torch.testing.assert_close(weights.sum(1), torch.ones(1000))
    assert weights[:, 1].equal(beta)


def test_latent_samples():
    normal = Latent(4).draw(5000, rng(1))
    assert normal.mean().abs() < 0.05 and abs(normal.std() - 1) < 0.05
    uniform = Latent(2, uniform=True).draw(5000, rng(1))
    assert -10 <= uniform.min() < -9.9 and 9.9 < uniform.max() <= 10
    for latent in (Latent(4), Latent(2, uniform=True)):
        whole = latent.draw(9, rng(2))
        assert latent.draw(9, rng(2), spread=0.25).equal(whole * 0.25)
        assert not latent.draw(9, rng(3)).equal(whole)


RANGED = TrainConfig.of(measure=("accuracy=0:1", "int8=0:1", "noise=0:1"))


def test_preferences_among_three_measures_are_dirichlet():
    """With parameters 1/2: the marginal of one of three is Beta(1/2, 1)."""
    drawn = draw_preferences(20_000, RANGED, rng())
    torch.testing.assert_close(drawn.sum(1), torch.ones(20_000))
    assert (drawn >= 0).all()
    for share in (0.04, 0.25, 0.81):
        below = (drawn < share).float().mean(0)
        torch.testing.assert_close(below, torch.full((3,), share**0.5), atol=0.015, rtol=0)
    assert preference_weights(drawn, RANGED).equal(drawn)


def test_preferences_stay_in_their_ranges_beside_fixed_weights():
    config = TrainConfig.of(measure=("accuracy=1", "int8=1:2", "noise=0:1"))
    drawn = draw_preferences(500, config, rng())
    int8, noise = drawn[:, 1] / drawn[:, 0], drawn[:, 2] / drawn[:, 0]
    assert (int8 >= 1 - 1e-5).all() and (int8 <= 2 + 1e-5).all() and int8.std() > 0.1
    assert (noise >= 0).all() and (noise <= 1 + 1e-5).all() and noise.std() > 0.1


def test_fixed_weights_are_normalised():
    config = TrainConfig.of(measure=("accuracy=1", "int8=3"))
    betas = draw_preferences(4, config, rng())
    weights = preference_weights(betas, config)
    assert betas.shape == (4,) and weights.tolist() == [[0.25, 0.75]] * 4


def test_radii_are_told_as_shares_of_the_largest_and_weigh_as_beta_says():
    config = TrainConfig.of(epsilon=(0.05, 0.2), beta=0.3)
    drawn = draw_preferences(2000, config, rng())
    assert 0.25 <= drawn.min() < 0.26 and 0.99 < drawn.max() <= 1
    assert drawn.equal(draw_beta(2000, (0.25, 1.0), rng()))
    weights = preference_weights(drawn, config)
    torch.testing.assert_close(weights, torch.tensor([[0.7, 0.3]]).expand(2000, 2))


def test_weights_of_two_measures_look_as_beta_does():
    beta = torch.linspace(0, 1, 11)
    weights = torch.stack([1 - beta, beta], -1)
    torch.testing.assert_close(encode_weights(weights), encode_beta(beta))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_basis_interpolates_between_corners_and_mid_edges(count):
    corners = torch.eye(count)
    first, second = torch.triu_indices(count, count, 1)
    nodes = torch.cat([corners, (corners[first] + corners[second]) / 2])
    torch.testing.assert_close(simplex_basis(nodes), torch.eye(len(nodes)))
    inside = torch.rand(50, count, generator=rng())
    inside /= inside.sum(1, keepdim=True)
    torch.testing.assert_close(simplex_basis(inside).sum(1), torch.ones(50))
    quadratic = (nodes.square() @ torch.arange(1.0, count + 1))[:, None]
    expected = inside.square() @ torch.arange(1.0, count + 1)
    torch.testing.assert_close((simplex_basis(inside) @ quadratic)[:, 0], expected)


@pytest.mark.parametrize("uniform", [False, True])
def test_quantiles_and_deviation_are_those_of_what_is_drawn(uniform):
    latent = Latent(2, uniform)
    z = latent.draw(20_000, torch.Generator().manual_seed(0))
    shares = torch.tensor([0.02, 0.3, 0.5, 0.9])
    found = z.flatten().quantile(shares)
    torch.testing.assert_close(latent.quantile(shares), found, rtol=0.05, atol=0.15)
    assert float(z.std()) == pytest.approx(latent.deviation, rel=0.02)
    inside = latent.clipped(z, 0.1)
    assert ((inside != z).double().mean() - 0.2).abs() < 0.01
    assert inside.equal(inside.clamp(*latent.quantile(torch.tensor([0.1, 0.9])).tolist()))
