import math

import pytest
import torch

from hypergen.models.latent import Latent, cdf, draw_beta, encode_beta, preference_weights


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
    weights = preference_weights(beta)
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
