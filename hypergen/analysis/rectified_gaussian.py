"""Means and covariances of Gaussian numbers after a ReLU or a maximum, in closed form.

Sources: Clark 1961, "The greatest of a finite set of random variables"; Rosenbaum 1961, "Moments of
a truncated bivariate normal distribution"; Bibi, Alfadly, Ghanem 2018, "Analytic expressions for
probabilistic moments of PL-DNN with Gaussian input".
"""

from math import pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, owens_t
from torch import Tensor

Array = NDArray[np.float64]

LEAST_STD = 1e-150
"""In the place of a standard deviation of 0, whose square is not 0 yet."""
MAX_CORRELATION = 1 - 1e-12
"""In the place of a correlation of 1: moments change by as little."""


def maximum(
    mean: Tensor, var: Tensor, other_mean: Tensor | float, other_var: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the greater of two independent Gaussians, each of any one shape.

    With a Gaussian of mean and variance 0 it is a ReLU.
    """
    spread = (var + other_var).sqrt().clamp_min(LEAST_STD)
    ahead = (mean - other_mean) / spread
    first, second = torch.special.ndtr(ahead), torch.special.ndtr(-ahead)
    density = spread * torch.exp(-(ahead**2) / 2) / sqrt(2 * pi)
    found = mean * first + other_mean * second + density
    square = (mean**2 + var) * first + (other_mean**2 + other_var) * second
    square = square + (mean + other_mean) * density
    return found, (square - found**2).clamp_min(0)


def relu(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Mean [H] and covariance [H,H] of max(x, 0), of Gaussian x with the mean and covariance."""
    std = np.sqrt(covariance.diagonal()).clip(LEAST_STD)
    rectified = mean * ndtr(mean / std) + std * _density(mean / std)
    first, second = np.triu_indices(len(mean))
    product = relu_product(
        mean[first], mean[second], std[first], std[second], covariance[first, second]
    )
    found = np.empty_like(covariance)
    found[first, second] = found[second, first] = product - rectified[first] * rectified[second]
    return rectified, found


def relu_product(
    mean: Array, other_mean: Array, std: Array, other_std: Array, covariance: Array
) -> Array:
    """E[max(a, 0) max(b, 0)] of Gaussian a and b with a covariance, element by element.

    At means of 0 it is the arc-cosine kernel. std: above 0.
    """
    correlation = (covariance / std / other_std).clip(-MAX_CORRELATION, MAX_CORRELATION)
    rest = np.sqrt(1 - correlation**2)
    a, b = mean / std, other_mean / other_std
    b_given_a, a_given_b = (b - correlation * a) / rest, (a - correlation * b) / rest
    both = bivariate_cdf(a, b, correlation)
    return (
        (mean * other_mean + correlation * std * other_std) * both
        + mean * other_std * _density(b) * ndtr(a_given_b)
        + other_mean * std * _density(a) * ndtr(b_given_a)
        + std * other_std * rest * _density(a) * _density(b_given_a)
    )


def bivariate_cdf(a: Array, b: Array, correlation: Array) -> Array:
    """P(x <= a and y <= b) of standard Gaussians of a correlation in (-1, 1); by Owen's T."""
    a, b = (np.where(abs(each) < LEAST_STD, LEAST_STD, each) for each in (a, b))
    rest = np.sqrt(1 - correlation**2)
    found = (ndtr(a) + ndtr(b)) / 2
    found -= owens_t(a, (b / a - correlation) / rest) + owens_t(b, (a / b - correlation) / rest)
    return found - np.where((a < 0) != (b < 0), 0.5, 0.0)


def _density(x: Array) -> Array:
    return np.exp(-(x**2) / 2) / sqrt(2 * pi)
