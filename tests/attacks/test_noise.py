import pytest
import torch

from attacks import PGD, Noise, Threat
from tests.attacks.conformance import problem

EPSILON = {"linf": 0.1, "l2": 0.5}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_points_are_spread_as_documented(norm, kind):
    threat, tried = Threat(norm, EPSILON[norm]), []

    def right(x: torch.Tensor) -> torch.Tensor:
        tried.append(x)
        return torch.tensor([1.0, 0.0]).expand(*x.shape[:2], 2)

    images = torch.full((1, 50, 1, 8, 8), 0.5)
    labels = torch.zeros(1, 50, dtype=torch.int64)
    Noise(threat, kind, draws=40)(right, images, labels, [0])
    assert len(tried) == 1 + 40 + 1, "clean, the draws, final check"
    delta = torch.cat(tried[1:-1], 1) - images[:, :1]
    assert delta.flatten(2).unique(dim=1).shape[1] == 50 * 40
    assert delta.mean().abs() < 1e-3
    lengths = threat.distance(delta, torch.zeros_like(delta)) / threat.epsilon
    at_the_end = (delta.abs() > 0.0999).float().mean()
    if norm == "l2":
        # In 64 dimensions the uniform radius has the mean 64/65.
        expected = 1 if kind == "gaussian" else 64 / 65
        assert lengths.mean() == pytest.approx(expected, abs=1e-3)
        # Half of a Gaussian's, or a sphere's, values lie within 0.674 deviations.
        assert (delta.abs() < 0.674 * 0.5 / 8).float().mean() == pytest.approx(0.5, abs=0.015)
    elif kind == "uniform":
        assert delta.std() == pytest.approx(0.1 / 3**0.5, rel=0.01) and at_the_end < 0.01
    else:
        assert at_the_end == pytest.approx(0.317, abs=0.01)


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_more_draws_break_more_and_a_gradient_breaks_most(kind):
    model, images, labels = problem(2, 60)
    threat = Threat("linf", 0.03)
    found = [
        Noise(threat, kind, draws)(model, images, labels, [0, 1]).robust_mask
        for draws in (1, 10, 50)
    ]
    assert (found[1] <= found[0]).all() and (found[2] <= found[1]).all()
    assert found[2].sum() < found[0].sum()
    pgd = PGD(threat, steps=10)(model, images, labels, [0, 1]).robust_mask
    assert pgd.sum() < found[2].sum()
