"""What an attacker may do to an image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.errors import require_known
from attacks.options import require_nonnegative
from attacks.rng import PerNetworkRNG

NORMS = ("linf", "l2", "l1")
# Floats cannot hit a ball's surface exactly.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Threat:
    """All images within epsilon of the clean one, in a norm, and within [0, 1].

    Args:
        norm: "linf", "l2" or "l1", over all C*H*W values of an image.
        epsilon: radius, finite and >= 0, in units of pixel values in [0, 1].

    Raises:
        AttackError: unknown norm, or an epsilon that is negative or not finite.
    """

    norm: str
    epsilon: float

    def __post_init__(self) -> None:
        require_known("norm", self.norm, NORMS)
        require_nonnegative(self, "epsilon")

    def bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of every pixel, each [P,B,C,H,W]."""
        return (images - self.epsilon).clamp_(min=0), (images + self.epsilon).clamp_(max=1)

    def project(self, adv: Tensor, images: Tensor) -> Tensor:
        """`adv` pulled back into the ball around `images`, then into [0, 1]; [P,B,C,H,W].

        In l2 the perturbation is scaled down to the ball and then clipped, as AutoAttack does: a
        point of the threat, if not always the nearest one. In l1, where that would leave a good
        part of the ball unused, it is the nearest one (Croce, Hein 2021, "Mind the box").
        """
        if self.norm == "linf":
            return torch.clamp(adv, *self.bounds(images))
        if self.norm == "l1":
            clipped = adv.clamp(0, 1)
            outside = _per_image(self.distance(clipped, images) > self.epsilon)
            return torch.where(outside, _nearest_in_l1(adv, images, self.epsilon), clipped)
        delta = adv - images
        length = _per_image(_length(delta))
        scaled = images + delta * (self.epsilon / length.clamp_min(torch.finfo(adv.dtype).tiny))
        # A point inside stays as it is to the last bit: x + (x' - x) need not give x' back.
        return torch.where(length <= self.epsilon, adv, scaled).clamp_(0, 1)

    def into_ball(self, delta: Tensor) -> Tensor:
        """Perturbations [P,C,H,W] shortened to lie in the ball, bounds of [0, 1] aside."""
        if self.norm == "linf":
            return delta.clamp(-self.epsilon, self.epsilon)
        length = self.length(delta)[..., None, None, None]
        shortened = delta * (self.epsilon / length.clamp_min(torch.finfo(delta.dtype).tiny))
        return torch.where(length <= self.epsilon, delta, shortened)

    def random_start(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        """A point drawn uniformly from each image's ball, projected; [P,B,C,H,W]."""
        return self.project(images + self.random_offset(images, rng), images)

    def random_offset(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        """A perturbation drawn uniformly from the ball, bounds of [0, 1] aside; [P,B,C,H,W]."""
        shape = images.shape[1:]
        if self.norm == "linf":
            delta = (2 * rng.uniform(*shape) - 1) * self.epsilon
        else:
            # A ball's volume grows as radius^dimensions, so the radius is a root of a uniform.
            radius = rng.uniform(shape[0]) ** (1 / math.prod(shape[1:]))
            size = _per_image(radius * self.epsilon)
            if self.norm == "l2":
                delta = self.step(rng.normal(*shape), size)
            else:
                # Exponentials over their sum are uniform on the sphere, but for their signs.
                delta = torch.log1p(-rng.uniform(*shape)) * (rng.uniform(*shape) - 0.5).sign()
                length = _per_image(_sum(delta.abs()))
                delta = delta * (size / length.clamp_min(torch.finfo(delta.dtype).tiny))
        return delta.to(images.dtype)

    def step(self, gradient: Tensor, size: Tensor | float, share: Tensor | float = 0.01) -> Tensor:
        """The move of length `size` that raises the loss most, to first order; [P,B,C,H,W].

        linf: size * sign(gradient); l2: size * gradient / (its length). In l1 that would be a
        move of one entry; there, `size` is divided evenly among the entries of greatest size
        (Tramer, Boneh 2019, "Adversarial training and robustness for multiple perturbations").
        Zero where the gradient is.

        Args:
            size: a number or broadcasts to [P,B,C,H,W].
            share: of an image's entries, those that an l1 step changes, in [0, 1]; rounded, but one
                entry at least, and all that tie with the last; a number or [P,B].
        """
        if self.norm == "linf":
            return gradient.sign() * size
        if self.norm == "l1":
            signs = _greatest(gradient, share).sign()
            return signs * (size / _per_image(_sum(signs.abs())).clamp_min(1))
        # Scaled by its largest entry first: the squares of a tiny gradient would underflow to 0.
        limits = torch.finfo(gradient.dtype)
        largest = gradient.abs().amax((-3, -2, -1), keepdim=True)
        gradient = gradient / largest.clamp_min(limits.tiny)
        # Any length above 0 is now at least eps, by which, unlike tiny, no size overflows.
        return gradient * (size / _per_image(_length(gradient)).clamp_min(limits.eps))

    def ascend(
        self, points: Tensor, gradient: Tensor, size: Tensor | float, images: Tensor
    ) -> Tensor:
        """Where a `step` up the gradient leads from points, brought back to the threat.

        In l1 only entries that can go that way are changed: the few of greatest gradient may all
        be at their end of [0, 1] already. Everything [P,B,C,H,W], but `size`, as in `step`.
        """
        if self.norm == "l1":
            blocked = torch.where(gradient > 0, points >= 1, points <= 0)
            gradient = gradient.masked_fill(blocked, 0)
        return self.project(points + self.step(gradient, size), images)

    def distance(self, adv: Tensor, images: Tensor) -> Tensor:
        """How far `adv` is from `images` in the threat's norm, [P,B]."""
        return self.length(adv - images)

    def length(self, delta: Tensor) -> Tensor:
        """The threat's norm of perturbations [...,C,H,W]: [...]."""
        if self.norm == "linf":
            return delta.abs().amax((-3, -2, -1))
        return _length(delta) if self.norm == "l2" else _sum(delta.abs())

    def contains(self, adv: Tensor, images: Tensor) -> Tensor:
        """Which of `adv` lie in the ball around their image, to rounding; bool [P,B]."""
        allowed = self.epsilon + TOLERANCE * max(1.0, self.epsilon)
        return self.distance(adv, images) <= allowed


def _length(delta: Tensor) -> Tensor:
    """Euclidean length over C, H, W: [P,B,C,H,W] -> [P,B]."""
    return torch.linalg.vector_norm(delta, dim=(-3, -2, -1))


def _sum(values: Tensor) -> Tensor:
    """Sum over C, H, W: [P,B,C,H,W] -> [P,B]."""
    return values.sum((-3, -2, -1))


def _greatest(gradient: Tensor, share: Tensor | float) -> Tensor:
    """The entries of greatest size, `share` of an image's, and 0 elsewhere; [P,B,C,H,W]."""
    size = gradient.abs()
    ranked = size.flatten(2).sort(-1, descending=True).values
    share = torch.as_tensor(share, device=gradient.device).expand(ranked.shape[:2])
    last = (share * ranked.shape[-1]).round().long().clamp_min(1) - 1
    return gradient.where(size >= _per_image(ranked.gather(-1, last[..., None])[..., 0]), 0)


def _nearest_in_l1(adv: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """What is nearest to `adv` in l2 among the points of [0, 1] at l1-distance epsilon, [P,B,...].

    For those that clipping to [0, 1] leaves farther away (Croce, Hein 2021): every entry goes as
    far as `adv` does less a slack that all have in common, but not back nor out of [0, 1].
    """
    # In double precision, for hundreds of small moves must add up to epsilon.
    start = images.double().flatten(2)
    delta = adv.double().flatten(2) - start
    wish, room = delta.abs(), torch.where(delta > 0, 1 - start, start)
    # As the slack grows, a move begins to shrink at `wish - room` and is gone at `wish`. In between
    # the knots the sum of all moves falls by the number of those that shrink.
    knots, order = torch.cat([(wish - room).clamp_min_(0), wish], -1).sort(-1)
    shrinking = torch.where(order < wish.shape[-1], 1, -1).cumsum(-1)[..., :-1]
    fallen = (shrinking * knots.diff()).cumsum(-1)  # by the second knot, the third, ...
    excess = torch.minimum(wish, room).sum(-1, keepdim=True) - epsilon
    # Between this knot and the one after it enough has fallen: from there back by the surplus.
    knot = (fallen < excess).sum(-1, keepdim=True).clamp_max_(fallen.shape[-1] - 1)
    surplus = (fallen.gather(-1, knot) - excess) / shrinking.gather(-1, knot).clamp_min_(1)
    slack = knots.gather(-1, knot + 1) - surplus
    moves = torch.minimum((wish - slack).clamp_min_(0), room)
    # What rounding has left over.
    tiny = torch.finfo(moves.dtype).tiny
    moves *= (epsilon / moves.sum(-1, keepdim=True).clamp_min_(tiny)).clamp_max_(1)
    moved = (start + delta.sign() * moves).to(adv.dtype)
    # Rounded towards the image: away from it, hundreds of roundings would add up.
    beyond = (moved - start).abs() > moves
    return torch.where(beyond, moved.nextafter(images.flatten(2)), moved).view_as(adv)


def _per_image(values: Tensor) -> Tensor:
    """[P,B] -> [P,B,1,1,1], to meet images."""
    return values[..., None, None, None]
