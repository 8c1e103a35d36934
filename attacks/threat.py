"""What an attacker may do to an image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.draws import Draws
from attacks.error import AttackError, unknown

NORMS = ("linf", "l2")
# Floats cannot hit a ball's surface exactly.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Threat:
    """All images within epsilon of the clean one, in a norm, and within [0, 1].

    Args:
        norm: "linf" or "l2", over all C*H*W values of an image.
        epsilon: radius, finite and >= 0, in units of pixel values in [0, 1].

    Raises:
        AttackError: unknown norm, or an epsilon that is negative or not finite.
    """

    norm: str
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if not isinstance(self.epsilon, int | float) or not 0 <= self.epsilon < math.inf:
            raise AttackError(f"expected a finite epsilon >= 0, got {self.epsilon!r}")

    def bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of every pixel, each [P,B,C,H,W]."""
        return (images - self.epsilon).clamp_(min=0), (images + self.epsilon).clamp_(max=1)

    def project(self, adv: Tensor, images: Tensor) -> Tensor:
        """`adv` pulled back into the ball around `images`, then into [0, 1]; [P,B,C,H,W].

        In l2 the perturbation is scaled down to the ball and then clipped, as AutoAttack does: a
        point of the threat, if not always the nearest one.
        """
        if self.norm == "linf":
            return torch.clamp(adv, *self.bounds(images))
        delta = adv - images
        length = _per_image(_length(delta))
        scaled = images + delta * (self.epsilon / length.clamp_min(torch.finfo(adv.dtype).tiny))
        # A point inside stays as it is to the last bit: x + (x' - x) need not give x' back.
        return torch.where(length <= self.epsilon, adv, scaled).clamp_(0, 1)

    def into_ball(self, delta: Tensor) -> Tensor:
        """Perturbations [P,C,H,W] shortened to lie in the ball, bounds of [0, 1] aside."""
        if self.norm == "linf":
            return delta.clamp(-self.epsilon, self.epsilon)
        length = _length(delta)[..., None, None, None]
        shortened = delta * (self.epsilon / length.clamp_min(torch.finfo(delta.dtype).tiny))
        return torch.where(length <= self.epsilon, delta, shortened)

    def random_start(self, images: Tensor, draws: Draws) -> Tensor:
        """A point drawn uniformly from each image's ball, projected; [P,B,C,H,W]."""
        return self.project(images + self.random_offset(images, draws), images)

    def random_offset(self, images: Tensor, draws: Draws) -> Tensor:
        """A perturbation drawn uniformly from the ball, bounds of [0, 1] aside; [P,B,C,H,W]."""
        shape = images.shape[1:]
        if self.norm == "linf":
            delta = (2 * draws.uniform(*shape) - 1) * self.epsilon
        else:
            # A ball's volume grows as radius^dimensions, so the radius is a root of a uniform.
            radius = draws.uniform(shape[0]) ** (1 / math.prod(shape[1:]))
            delta = self.step(draws.normal(*shape), _per_image(radius * self.epsilon))
        return delta.to(images.dtype)

    def step(self, gradient: Tensor, size: Tensor | float) -> Tensor:
        """The move of length `size` that raises the loss most, to first order; [P,B,C,H,W].

        linf: size * sign(gradient); l2: size * gradient / ||gradient||. Zero where the gradient is.
        `size` is a number or broadcasts to [P,B,C,H,W].
        """
        if self.norm == "linf":
            return gradient.sign() * size
        # Scaled by its largest entry first: the squares of a tiny gradient would underflow to 0.
        tiny = torch.finfo(gradient.dtype).tiny
        gradient = gradient / gradient.abs().amax((-3, -2, -1), keepdim=True).clamp_min(tiny)
        return gradient * (size / _per_image(_length(gradient)).clamp_min(tiny))

    def distance(self, adv: Tensor, images: Tensor) -> Tensor:
        """How far `adv` is from `images` in the threat's norm, [P,B]."""
        delta = adv - images
        return delta.abs().amax((-3, -2, -1)) if self.norm == "linf" else _length(delta)

    def contains(self, adv: Tensor, images: Tensor) -> Tensor:
        """Which of `adv` lie in the ball around their image, to rounding; bool [P,B]."""
        allowed = self.epsilon + TOLERANCE * max(1.0, self.epsilon)
        return self.distance(adv, images) <= allowed


def _length(delta: Tensor) -> Tensor:
    """Euclidean length over C, H, W: [P,B,C,H,W] -> [P,B]."""
    return torch.linalg.vector_norm(delta, dim=(-3, -2, -1))


def _per_image(values: Tensor) -> Tensor:
    """[P,B] -> [P,B,1,1,1], to meet images."""
    return values[..., None, None, None]
