"""PGD along a sampled gradient, for models whose own leads nowhere (Tramer et al. 2020)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import ActiveSet, Attack, Model, PerNetworkRNG, evaluate, misclassified
from attacks.errors import AttackError, shown
from attacks.losses import margin
from attacks.options import count, require_positive
from attacks.threat import NORMS

# Directions drawn at once. Fixed, or the draws would depend on how many images are active.
BLOCK = 50
# Points evaluated at once, over all networks, unless two of every image are more already.
POINTS = 2048


@dataclass(frozen=True)
class SamplingGradient(Attack):
    """Steps on a gradient of the margin estimated from values (Tramer et al. 2020, on k-WTA).

    The estimate is the mean of u (f(x + sigma u) - f(x - sigma u)) over Gaussian u: the gradient of
    the margin f smoothed, which exists where f itself is full of jumps or flat. From the clean
    image; every step's end is evaluated. All images of a network share their u, so that an estimate
    does not depend on which others are active. Samples are clipped to [0, 1], the published ones
    are not.

    Args:
        schedule: pairs of how many steps, and how many samples a step, an even number. The default
            is the published one: 1.22 million forward passes an image that stays robust.
        sigma: size of the noise in the threat's norm: of each pixel in l-inf, of all C*H*W together
            in l2 and l1, on average; None means epsilon. Published: 8/255, epsilon 0.031.
        step_size: length of a step in the threat's norm; None means epsilon / 3.1, as published.

    Raises:
        AttackError: an option out of range.
    """

    schedule: tuple[tuple[int, int], ...] = ((20, 100), (20, 1000), (60, 20_000))
    sigma: float | None = None
    step_size: float | None = None
    unconstrained_norms = NORMS

    def __post_init__(self) -> None:
        pairs = self.schedule if isinstance(self.schedule, tuple | list) else None
        if pairs is None or not all(isinstance(e, tuple | list) and len(e) == 2 for e in pairs):
            raise AttackError(f"expected pairs (steps, samples), got {shown(self.schedule)}")
        if not pairs:
            raise AttackError("expected a schedule of at least one pair (steps, samples), got none")
        schedule = tuple((count("steps", n), count("samples", k)) for n, k in self.schedule)
        for _, samples in schedule:
            if samples % 2:
                raise AttackError(f"expected samples in pairs, an even number, got {samples}")
        object.__setattr__(self, "schedule", schedule)
        if self.sigma is not None:
            require_positive(self, "sigma")
        if self.step_size is not None:
            require_positive(self, "step_size")

    @property
    def name(self) -> str:
        return "sampling-gradient"

    @property
    def spread(self) -> float:
        """`sigma`, the default filled in."""
        return self.threat.epsilon if self.sigma is None else self.sigma

    @property
    def size(self) -> float:
        """Length of a step, the default filled in."""
        return self.threat.epsilon / 3.1 if self.step_size is None else self.step_size

    def deviation(self, pixels: int) -> float:
        """Standard deviation of one pixel of noise that is `spread` in size on so many."""
        if self.threat.norm == "l1":
            return self.spread / pixels * math.sqrt(math.pi / 2)
        return self.spread / math.sqrt(pixels) if self.threat.norm == "l2" else self.spread

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "sigma": self.spread, "step_size": self.size}

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        points = active_set.images
        for samples in (samples for steps, samples in self.schedule for _ in range(steps)):
            gradient = self._gradient(model, points, active_set.labels, samples, rng)
            points = self.threat.ascend(points, gradient, self.size, active_set.images)
            broken = misclassified(evaluate(model, points), active_set.labels)
            (points,) = active_set.mark_adversarial(points, broken, points)
            if not active_set:
                return

    def _gradient(
        self, model: Model, points: Tensor, labels: Tensor, samples: int, rng: PerNetworkRNG
    ) -> Tensor:
        """The smoothed margin's gradient at the points, up to a positive factor, [P,N,C,H,W]."""
        shape = points.shape[2:]
        scale = self.deviation(math.prod(shape))
        pairs_at_once = max(1, POINTS // (2 * labels.numel()))
        gradient = torch.zeros_like(points)
        for drawn in range(0, samples // 2, BLOCK):
            block = rng.normal(min(BLOCK, samples // 2 - drawn), *shape).to(points.dtype)
            for directions in block.split(pairs_at_once, 1):
                slopes = _differences(model, points, labels, scale * directions)
                # One by one and in two roundings: sums over an axis may be taken in an order, and
                # products fused, as the number of images has it.
                for slope, direction in zip(slopes.unbind(1), directions.unbind(1), strict=True):
                    gradient = gradient + slope[..., None, None, None] * direction[:, None]
        return gradient


def _differences(model: Model, points: Tensor, labels: Tensor, offsets: Tensor) -> Tensor:
    """How much the margin at points [P,N,...] + offsets [P,k,...] exceeds that at -, [P,k,N]."""
    signed = torch.stack([offsets, -offsets], 1)[:, :, :, None]
    moved = (points[:, None, None] + signed).clamp_(0, 1)
    _, signs, count, images = moved.shape[:4]
    values = margin(evaluate(model, moved.flatten(1, 3)), labels.repeat(1, signs * count))
    up, down = values.unflatten(1, (signs, count, images)).unbind(1)
    return up - down
