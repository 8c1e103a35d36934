"""What the generator is given: latent samples z and preferences."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hypergen.config import TrainConfig


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

    def quantile(self, share: Tensor) -> Tensor:
        """Below which value a coordinate lies with a probability in (0,1); any shape."""
        return share * 20 - 10 if self.uniform else torch.special.ndtri(share)

    def clipped(self, z: Tensor, tail: float) -> Tensor:
        """z with each coordinate moved to where all but that share of both ends lies."""
        low, high = self.quantile(torch.tensor([tail, 1 - tail])).tolist()
        return z.clamp(low, high)

    @property
    def deviation(self) -> float:
        """The standard deviation of a coordinate."""
        return 20 / math.sqrt(12) if self.uniform else 1.0


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


def draw_preferences(count: int, config: TrainConfig, rng: torch.Generator) -> Tensor:
    """Preferences as a run has them: numbers [count] or, of all measures, weights [count,M].

    A number is beta or, where the run has a range of radii, the share of the largest. Weights of
    several ranged measures are drawn by the Dirichlet law with all parameters 1/2, which is dense
    at the corners and for two measures the arcsine law; within their ranges.
    """
    if not config.objective.has_many_preferences:
        return draw_beta(count, config.knob.given_range, rng)
    specs = config.objective.specs
    low = torch.tensor([spec.low for spec in specs])
    width = torch.tensor([spec.high for spec in specs]) - low
    squares = torch.randn(count, len(specs), generator=rng).square() * (width > 0)
    weights = low + width * squares / squares.sum(1, keepdim=True)
    return weights / weights.sum(1, keepdim=True)


def preference_weights(preference: Tensor, config: TrainConfig) -> Tensor:
    """Preferences, [P] or weights [P,M] -> [P,M], what each measure weighs; rows sum to 1.

    Measures of fixed weights have these, whatever is asked.
    """
    objective = config.objective
    if preference.ndim == 2:
        return preference
    if not objective.measures and config.knob.name == "beta":
        return torch.stack([1 - preference, preference], dim=-1)
    weights = preference.new_tensor([spec.low for spec in objective.specs])
    return (weights / weights.sum()).expand(len(preference), -1)


def encode_weights(weights: Tensor) -> Tensor:
    """Weights [P,M] of measures -> [P,M], for two of them what `encode_beta` gives."""
    return (weights * (math.pi / 2)).sin()


def simplex_basis(weights: Tensor) -> Tensor:
    """Weights [P,M] that sum to 1 -> [P, M (M + 1) / 2], how near each is to corners and mid-edges.

    Those of quadratic interpolation on a simplex (P2 finite elements): they add up to 1, and at a
    corner, or halfway between two, one of them is 1 and all others 0.
    """
    first, second = torch.triu_indices(weights.shape[1], weights.shape[1], 1)
    edges = 4 * weights[:, first] * weights[:, second]
    return torch.cat([weights * (2 * weights - 1), edges], dim=1)


def hat_basis(places: Tensor, count: int) -> Tensor:
    """Places [P] in [0,1] -> [P,count], how near each is to `count` evenly spread points.

    Weights of linear interpolation: they add up to 1, and no more than two neighbours are not 0.
    """
    points = torch.arange(count, device=places.device)
    return (1 - (places[:, None] * (count - 1) - points).abs()).clamp_min(0)
