"""RayS: an attack that sees the predicted class alone (Chen, Gu 2020)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from attacks.base import ActiveSet, Attack, Model, PerNetworkRNG, evaluate, misclassified
from attacks.options import require_counts, require_norm
from attacks.threat import NORMS

# A radius is searched for down to this share of epsilon.
PRECISION = 1e-3


@dataclass(frozen=True)
class RayS(Attack):
    """RayS, which looks for the corner of the box towards which the boundary is nearest, l-inf.

    Of the model it uses the class it picks and nothing else, neither gradient nor logits (Chen, Gu
    2020). Every image has a direction of signs and the radius at which it breaks the model there. A
    query flips the signs of one block of values, ever smaller ones, and asks at that radius; if the
    model is wrong, the flip stays and a bisection finds the new radius. Here a bisection asks at
    epsilon first, and an image is done with as soon as that breaks the model. Nothing is random.

    Args:
        queries: forward passes an image that stays robust; 10,000 as published. The blocks down to
            single values take about 2 * C*H*W, the bisections some ten for each flip that stays.

    Raises:
        AttackError: another norm than l-inf, or an option out of range.
    """

    queries: int = 10_000
    unconstrained_norms = NORMS

    def __post_init__(self) -> None:
        require_counts(self, "queries")
        require_norm(self.name, self.threat.norm, ["linf"])

    @property
    def name(self) -> str:
        return "rays"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        epsilon, images = self.threat.epsilon, active_set.images
        values = math.prod(images.shape[2:])
        blocks = torch.tensor(list(islice(_blocks(values), self.queries)), device=images.device)
        position = torch.arange(values, device=images.device).view(images.shape[2:])
        signs = torch.ones_like(images)
        # At radius 1 a ray has come to a corner of [0, 1], whatever the image.
        radius = images.new_ones(images.shape[:2])
        below = torch.zeros_like(radius)  # the greatest radius seen not to break, in a bisection
        bisecting = torch.zeros_like(radius, dtype=torch.bool)
        flips = torch.zeros_like(active_set.labels)  # how many were tried
        for _ in range(self.queries):
            start, end = blocks[flips][..., None, None, None, :].unbind(-1)
            flipped = (position >= start) & (position < end) & ~bisecting[..., None, None, None]
            ray = torch.where(flipped, -signs, signs)
            middle = torch.where(below < epsilon, epsilon, (below + radius) / 2)
            queried = torch.where(bisecting, middle, radius)
            points = (active_set.images + queried[..., None, None, None] * ray).clamp_(0, 1)
            wrong = misclassified(evaluate(model, points), active_set.labels)

            kept = wrong & ~bisecting
            signs = torch.where(kept[..., None, None, None], ray, signs)
            flips = flips + ~bisecting
            radius = torch.where(wrong, queried, radius)
            below = torch.where(wrong, below, queried).where(bisecting, 0)
            bisecting = kept | (bisecting & (radius - below > PRECISION * epsilon))
            broken = wrong & (queried <= epsilon)
            signs, radius, below, bisecting, flips = active_set.mark_adversarial(
                points, broken, signs, radius, below, bisecting, flips
            )
            if not active_set:
                return


def _blocks(values: int) -> Iterator[tuple[int, int]]:
    """Ranges of values whose signs to flip: all, halves, quarters, ..., one by one for ever."""
    parts = 1
    while True:
        size = math.ceil(values / parts)
        yield from ((start, min(start + size, values)) for start in range(0, values, size))
        parts *= 2
