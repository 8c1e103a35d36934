"""Box-constrained L-BFGS, the first attack on neural networks there was (Szegedy et al. 2014)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import (
    ActiveSet,
    Attack,
    Model,
    PerNetworkRNG,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.losses import cross_entropy, wrong_classes
from attacks.minimum_norm import MinimumNorm, WeightSearch
from attacks.options import require_counts, require_positive
from attacks.threat import NORMS

# Moves that make up what is known of the curvature.
MEMORY = 10

# A step must bring this share of the decrease that the gradient promises (Armijo's condition).
ENOUGH_DECREASE = 1e-4

# A move whose curvature, relative to the change of gradient, is less tells nothing.
LEAST_CURVATURE = 1e-6


@dataclass(frozen=True)
class LBFGS(Attack):
    """Minimises L2(x', x)^2 + c cross-entropy(x', target) over [0, 1], one target after another.

    By L-BFGS, as Szegedy et al. did, with c, which every image has to itself, the least that turns
    the minimiser into an example: ten times as much until it is one, halfway in between from then
    on. What is minimised is the distance in l2, whatever the threat; the result is the example
    visited that is nearest in the threat's norm: an image is not done with at its first one.

    Args:
        steps: gradients a minimisation.
        searches: how many values of c are tried for a target.
        targets: how many wrong classes to aim at, the likeliest of the clean image first; at most
            K - 1 are used.
        first_weight: the first value of c.

    Raises:
        AttackError: an option out of range.
    """

    unconstrained_norms = NORMS
    steps: int = 50
    searches: int = 9
    targets: int = 9
    first_weight: float = 1e-2

    def __post_init__(self) -> None:
        require_counts(self, "steps", "searches", "targets")
        require_positive(self, "first_weight")

    @property
    def name(self) -> str:
        return "lbfgs"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        nearest = MinimumNorm.none(active_set.images)
        wrong = wrong_classes(active_set.all_logits, active_set.all_labels)
        for target in wrong[..., : self.targets].unbind(-1):
            aims = active_set.pack(target)
            weights = WeightSearch.begin(active_set.images, self.first_weight)
            for _ in range(self.searches):
                nearest, found = self._minimise(model, active_set, aims, weights.current, nearest)
                weights = weights.updated(found)
        nearest.mark_inside(active_set, self.threat)

    def _minimise(
        self,
        model: Model,
        active_set: ActiveSet,
        aims: Tensor,
        weight: Tensor,
        nearest: MinimumNorm,
    ) -> tuple[MinimumNorm, Tensor]:
        """One minimisation from the clean images; and which ended at an example, bool [P,N]."""
        images, labels = active_set.images, active_set.labels

        def objective(points: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal nearest
            logits, losses, gradient = differentiate(
                model, points, lambda logits: cross_entropy(logits, aims)
            )
            broken = misclassified(logits, labels)
            nearest = nearest.updated(points, broken, images, self.threat)
            values = _dot(points - images, points - images) + weight * losses
            return values, 2 * (points - images) + weight[..., None, None, None] * gradient

        points = minimise(objective, images, self.steps)
        return nearest, misclassified(evaluate(model, points), labels)


def minimise(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]], points: Tensor, steps: int
) -> Tensor:
    """Minimises an objective of its own for each image over [0, 1] by L-BFGS, all side by side.

    Projected: pixels that a bound holds sit out a step, the others take the quasi-Newton step and
    stop at the bounds; a step that brings too little is halved the next time.

    Args:
        objective: points [P,N,C,H,W] to values [P,N] and their gradients.
        points: where to begin, in [0, 1], [P,N,C,H,W].
        steps: calls of the objective.

    Returns:
        The best point of each image, [P,N,C,H,W].
    """
    values, gradient = objective(points)
    moves = turns = points.new_zeros(MEMORY, *points.shape)  # of the gradient, by the moves
    size = torch.ones_like(values)
    for _ in range(steps - 1):
        way = _direction(points, gradient, moves, turns)
        ahead = (points + size[..., None, None, None] * way).clamp(0, 1)
        values_ahead, gradient_ahead = objective(ahead)
        move, turn = ahead - points, gradient_ahead - gradient
        good = values_ahead <= values + ENOUGH_DECREASE * _dot(gradient, move)
        mask = good[..., None, None, None]
        moves = torch.where(mask, torch.cat([moves[1:], move[None]]), moves)
        turns = torch.where(mask, torch.cat([turns[1:], turn[None]]), turns)
        points = torch.where(mask, ahead, points)
        gradient = torch.where(mask, gradient_ahead, gradient)
        values = torch.where(good, values_ahead, values)
        size = torch.where(good, 1, size / 2)
    return points


def _direction(points: Tensor, gradient: Tensor, moves: Tensor, turns: Tensor) -> Tensor:
    """The quasi-Newton step among the pixels that no bound holds, [P,N,C,H,W].

    Moves and the changes of gradient they brought are [MEMORY,P,N,C,H,W], the latest last.
    """
    free = ~((points <= 0) & (gradient > 0) | (points >= 1) & (gradient < 0))
    way, moves, turns = -gradient * free, moves * free, turns * free
    curvature, change = _dot(moves, turns), _dot(turns, turns)
    known = curvature > LEAST_CURVATURE * change + torch.finfo(points.dtype).tiny
    inverse = torch.where(known, 1 / curvature, 0)
    # As long as nothing is known, a step of length 1 at most.
    scale = _dot(way, way).sqrt().clamp_min(1).reciprocal()
    for known_now, ratio in zip(known, curvature / change, strict=True):
        scale = torch.where(known_now, ratio, scale)
    shares = []
    for move, turn, weight in zip(moves.flip(0), turns.flip(0), inverse.flip(0), strict=True):
        shares.append(weight * _dot(move, way))
        way = way - shares[-1][..., None, None, None] * turn
    way = scale[..., None, None, None] * way
    for move, turn, weight, share in zip(moves, turns, inverse, reversed(shares), strict=True):
        way = way + (share - weight * _dot(turn, way))[..., None, None, None] * move
    return way * free


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """The inner product over C, H, W: [...,C,H,W] -> [...]."""
    return (one * other).sum((-3, -2, -1))
