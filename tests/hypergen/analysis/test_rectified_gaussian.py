"""Moments of Gaussian numbers after a ReLU or a maximum, against quadrature."""

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from hypergen.analysis.rectified_gaussian import bivariate_cdf, maximum, relu, relu_product

CASES = [
    (0.3, -0.5, 1.0, 2.0, 0.4),
    (-1.2, 0.7, 0.6, 0.9, -0.8),
    (1.5, 2.5, 1.1, 0.4, 0.95),
    (0.0, 0.8, 1.0, 1.0, 0.3),
    (-2.0, -1.0, 1.0, 1.5, 0.6),
]
"""Means, standard deviations and correlation of two numbers."""


@pytest.mark.parametrize("a, b, std_a, std_b, correlation", CASES)
def test_products_of_two_units(a, b, std_a, std_b, correlation):
    x = np.linspace(-a / std_a, 10, 20_001)  # of the first, where its unit answers
    rest, given = std_b * np.sqrt(1 - correlation**2), b + std_b * correlation * x
    other = given * stats.norm.cdf(given / rest) + rest * stats.norm.pdf(given / rest)
    expected = integrate.simpson((a + std_a * x) * stats.norm.pdf(x) * other, x=x)
    arrays = map(np.array, (a, b, std_a, std_b, correlation * std_a * std_b))
    assert relu_product(*arrays) == pytest.approx(expected, abs=1e-9)


def test_at_means_of_0_it_is_the_arc_cosine_kernel():
    correlation = np.linspace(-1, 1, 21)
    zero, one = np.zeros(21), np.ones(21)
    angle = np.arccos(correlation)
    kernel = (np.sin(angle) + (np.pi - angle) * correlation) / (2 * np.pi)
    np.testing.assert_allclose(relu_product(zero, zero, one, one, correlation), kernel, atol=1e-9)


def test_the_bivariate_distribution():
    for a, b in itertools.product([-2.0, -0.4, 0.0, 0.7, 3.0], repeat=2):
        for correlation in (-0.97, -0.3, 0.0, 0.5, 0.999):
            covariance = [[1, correlation], [correlation, 1]]
            expected = stats.multivariate_normal([0, 0], covariance).cdf([a, b])
            found = bivariate_cdf(*map(np.array, (a, b, correlation)))
            assert found == pytest.approx(expected, abs=1e-7)


def test_units_that_depend_on_one_another_or_do_not_move():
    mean = np.array([0.4, 0.8, -0.4, 1.0, -1.0])
    ways = np.array([1.0, 2.0, -1.0, 0.0, 0.0])  # the second is twice the first, ...
    found, covariance = relu(mean, np.outer(ways, ways))
    x = np.linspace(-9, 9, 200_001)
    values = (mean[:, None] + ways[:, None] * x).clip(0)
    weights = stats.norm.pdf(x) * (x[1] - x[0])
    expected = values @ weights
    np.testing.assert_allclose(found, expected, atol=1e-6)
    square = (values * weights) @ values.T - np.outer(expected, expected)
    np.testing.assert_allclose(covariance, square, atol=1e-6)


@pytest.mark.parametrize("a, b, std_a, std_b, _", CASES)
def test_the_greater_of_two(a, b, std_a, std_b, _):
    first, second = stats.norm(a, std_a), stats.norm(b, std_b)
    x = np.linspace(-20, 20, 400_001)
    density = first.pdf(x) * second.cdf(x) + second.pdf(x) * first.cdf(x)
    expected = (x * density).sum() * (x[1] - x[0])
    square = (x**2 * density).sum() * (x[1] - x[0])
    arguments = torch.tensor([a, std_a**2, b, std_b**2], dtype=torch.float64)
    mean, var = maximum(*arguments)
    assert float(mean) == pytest.approx(expected, abs=1e-9)
    assert float(var) == pytest.approx(square - expected**2, abs=1e-9)


def test_a_relu_is_the_greater_of_a_number_and_0():
    mean, std = np.array([0.3, -1.0, 0.0]), np.array([1.0, 0.5, 2.0])
    found, covariance = relu(mean, np.diag(std**2))
    other, var = maximum(torch.from_numpy(mean), torch.from_numpy(std**2), 0.0, 0.0)
    np.testing.assert_allclose(found, other, atol=1e-12)
    np.testing.assert_allclose(covariance, torch.diag(var), atol=1e-12)
