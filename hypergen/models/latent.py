"""What the generator is given: latent samples z and preferences beta."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Latent:
    """The distribution of z: standard normal, or uniform in [-10,10] (Ballarin 2020)."""

    size: int
    uniform: bool = False

    def draw(self, count: int, rng: torch.Generator, spread: float = 1.0) -> Tensor:
        """[count, Z] samples from a CPU generator; `spread` in [0,1] shrinks them to the mean."""
        if self.uniform:
            return (torch.rand(count, self.size, generator=rng) * 20 - 10) * spread
        return torch.randn(count, self.size, generator=rng) * spread


def draw_beta(count: int, limits: tuple[float, float], rng: torch.Generator) -> Tensor:
    """[count] preferences in [lowest, highest], by the arcsine law.

    That is Beta(1/2, 1/2), dense at both ends: few uniform preferences are near them, too few to
    learn from. (Navon et al. 2021, "Learning the Pareto front with hypernetworks": Beta(.2, .2).)
    """
    low, high = limits
    share = (math.pi / 2 * torch.rand(count, generator=rng)).sin().square()
    return low + (high - low) * share


def cdf(beta: Tensor, limits: tuple[float, float]) -> Tensor:
    """Preferences [P] in [lowest, highest] -> [P], the share in [0,1] of `draw_beta`'s below."""
    low, high = limits
    share = ((beta - low) / (high - low)).clamp(0, 1)  # beyond by rounding alone
    return share.sqrt().asin() * (2 / math.pi)


def encode_beta(beta: Tensor) -> Tensor:
    """Preferences [P] -> [P,2], a quarter of the unit circle, so both ends look alike."""
    angle = beta * (math.pi / 2)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def preference_weights(beta: Tensor) -> Tensor:
    """Preferences [P] -> weights [P,2] of the measures (accuracy, robustness): alpha and beta."""
    return torch.stack([1 - beta, beta], dim=-1)
