"""Auto-PGD: PGD that chooses its own step size (Croce, Hein 2020).

In l1 it is the one of "Mind the box" (Croce, Hein 2021), which also chooses how sparse its steps
are: it goes through balls of 3, 2 and 1 epsilon, and only points of the last count.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from attacks import losses
from attacks.active_set import FullBatch
from attacks.base import (
    ActiveSet,
    Attack,
    Model,
    PerNetworkRNG,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.errors import require_known
from attacks.options import require_counts
from attacks.threat import Threat

LOSSES = {"ce": losses.cross_entropy, "dlr": losses.dlr}

MOMENTUM = 0.75
# A step size is kept if more than this share of the steps since the last checkpoint went up.
ENOUGH_INCREASES = 0.75

# In l1 a step changes this many times fewer entries than the best point at the last checkpoint did
# (rounded; the official code rounds up, and so never gets from two entries to one).
# Where that number still falls, to less than this share of itself, steps are long; elsewhere they
# become shorter by this factor at a checkpoint, down to this share of epsilon.
SPARSER = 1.5
STILL_FALLING = 0.95
SHORTER = 1.5
SHORTEST = 0.1


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD, untargeted (Croce, Hein 2020; in l1 2021).

    Args:
        steps: gradient steps a restart, in l1 30, 30 and 40 % of them in the three balls.
        restarts: runs from fresh random starts, each on the images that are still robust.
        loss: "ce", or "dlr", which needs 3 classes.

    Raises:
        AttackError: an option out of range.
    """

    unconstrained_norms = ("l1",)
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"

    def __post_init__(self) -> None:
        require_counts(self, "steps", "restarts")
        require_known("loss", self.loss, LOSSES)

    @property
    def name(self) -> str:
        return f"apgd-{self.loss}"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        for _ in range(self.restarts):
            _ascend(self.threat, self.steps, model, active_set, rng, self._loss)

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The point of highest loss that one restart visits, for every image, [P,B,C,H,W]."""
        batch = FullBatch(images, labels)
        return _ascend(self.threat, self.steps, model, batch, rng, self._loss)

    def _loss(self, active_set: ActiveSet, logits: Tensor) -> Tensor:
        return LOSSES[self.loss](logits, active_set.labels)


@dataclass(frozen=True)
class TargetedAPGD(Attack):
    """Auto-PGD on the targeted DLR loss, one wrong class after another (Croce, Hein 2020; 2021).

    That loss needs four classes. With two or three it is the targeted margin, z_t - z_y, what is
    left of it without its denominator: as AutoAttack has none for so few classes, this is our own.

    Args:
        steps: gradient steps a target and restart, in l1 30, 30 and 40 % of them in the three
            balls.
        targets: how many wrong classes to aim at, the likeliest of the clean image first; at most
            K - 1 are used. Each is tried on the images that are still robust.
        restarts: runs a target, from fresh random starts.

    Raises:
        AttackError: an option out of range.
    """

    unconstrained_norms = ("l1",)
    steps: int = 100
    targets: int = 9
    restarts: int = 1

    def __post_init__(self) -> None:
        require_counts(self, "steps", "targets", "restarts")

    @property
    def name(self) -> str:
        return "apgd-t"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        wrong = losses.wrong_classes(active_set.all_logits, active_set.all_labels)
        for target in wrong[..., : self.targets].unbind(-1):
            loss = partial(self._loss, target)
            for _ in range(self.restarts):
                _ascend(self.threat, self.steps, model, active_set, rng, loss)

    @staticmethod
    def _loss(target: Tensor, active_set: ActiveSet, logits: Tensor) -> Tensor:
        few = logits.shape[-1] < losses.TARGETED_DLR_CLASSES
        loss = losses.targeted_margin if few else losses.targeted_dlr
        return loss(logits, active_set.labels, active_set.pack(target))


class _State(NamedTuple):
    """What Auto-PGD remembers of every image: points [P,N,C,H,W], numbers [P,N]."""

    points: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best_points: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step_size: Tensor
    increases: Tensor  # since the last checkpoint
    checkpoint_loss: Tensor  # the best loss at the last checkpoint
    halved: Tensor  # whether the last checkpoint halved the step size
    changed: Tensor  # entries that the best point changed at the last checkpoint, for l1

    @classmethod
    def begin(cls, points: Tensor, images: Tensor, threat: Threat) -> "_State":
        number = points.new_full(points.shape[:2], 0.0)
        return cls(
            points=points,
            previous=points,
            gradient=points,
            loss=number + torch.inf,
            best_points=points,
            best_gradient=points,
            best_loss=number - torch.inf,
            step_size=number + threat.epsilon * (1 if threat.norm == "l1" else 2),
            increases=number,
            checkpoint_loss=number,
            # Spares the first checkpoint a comparison with one before it.
            halved=torch.ones_like(number, dtype=torch.bool),
            changed=_count_changed(points, images),
        )

    def visited(self, loss: Tensor, gradient: Tensor) -> "_State":
        """With the loss and gradient at `points` taken into account."""
        better = loss > self.best_loss
        mask = better[..., None, None, None]
        return self._replace(
            gradient=gradient,
            loss=loss,
            best_points=torch.where(mask, self.points, self.best_points),
            best_gradient=torch.where(mask, gradient, self.best_gradient),
            best_loss=torch.where(better, loss, self.best_loss),
            increases=self.increases + (loss > self.loss),
        )

    def checkpoint(self, steps: int) -> "_State":
        """Halves the step sizes that have stalled over `steps` and goes back to the best point."""
        oscillates = self.increases <= ENOUGH_INCREASES * steps
        stuck = ~self.halved & (self.checkpoint_loss >= self.best_loss)
        halve = oscillates | stuck
        mask = halve[..., None, None, None]
        return self._replace(
            points=torch.where(mask, self.best_points, self.points),
            gradient=torch.where(mask, self.best_gradient, self.gradient),
            step_size=torch.where(halve, self.step_size / 2, self.step_size),
            increases=torch.zeros_like(self.increases),
            checkpoint_loss=self.best_loss,
            halved=halve,
        )

    def checkpoint_l1(self, threat: Threat, images: Tensor) -> "_State":
        """Where the best point became sparser, long steps from there; elsewhere shorter ones."""
        changed = _count_changed(self.best_points, images)
        falling = changed < STILL_FALLING * self.changed
        mask = falling[..., None, None, None]
        shorter = (self.step_size / SHORTER).clamp_min(SHORTEST * threat.epsilon)
        return self._replace(
            points=torch.where(mask, self.best_points, self.points),
            gradient=torch.where(mask, self.best_gradient, self.gradient),
            step_size=torch.where(falling, threat.epsilon, shorter),
            changed=changed,
        )

    def step(self, threat: Threat, images: Tensor, momentum: float) -> "_State":
        """One step from `points` along `gradient`, and on the way of the last step."""
        move = threat.step(self.gradient, self.step_size[..., None, None, None])
        ahead = threat.project(self.points + move, images)
        points = torch.lerp(self.points, ahead, momentum)
        points = points + (1 - momentum) * (self.points - self.previous)
        return self._replace(points=threat.project(points, images), previous=self.points)

    def step_l1(self, threat: Threat, images: Tensor) -> "_State":
        """One sparse step from `points` along `gradient`, without momentum."""
        share = self.changed / (SPARSER * math.prod(images.shape[2:]))
        move = threat.step(self.gradient, self.step_size[..., None, None, None], share)
        return self._replace(points=threat.project(self.points + move, images))


def _count_changed(points: Tensor, images: Tensor) -> Tensor:
    """How many entries of each of `points` differ from those of `images`, [P,N]."""
    return (points != images).flatten(2).sum(-1).to(points.dtype)


def _ascend(
    threat: Threat,
    steps: int,
    model: Model,
    active_set: ActiveSet,
    rng: PerNetworkRNG,
    loss: Callable[[ActiveSet, Tensor], Tensor],
) -> Tensor:
    """Auto-PGD on the active images from a random start; the best points of what stayed active."""
    if threat.norm != "l1":
        # The official start has length epsilon exactly. A uniform point of a ball in hundreds of
        # dimensions is as good as there.
        start = active_set.pack(threat.random_start(active_set.all_images, rng))
        return _climb(threat, steps, model, active_set, start, loss)
    # What the projection leaves of noise is sparse; a uniform point of the ball is not.
    noise = rng.normal(*active_set.all_images.shape[1:])
    points = active_set.pack(active_set.all_images + noise)
    early = 3 * steps // 10
    for scale, count in ((3, early), (2, early), (1, steps - 2 * early)):
        ball = replace(threat, epsilon=scale * threat.epsilon)
        start = ball.project(points, active_set.images)
        points = _climb(ball, count, model, active_set, start, loss, counts=scale == 1)
    return points


def _climb(
    threat: Threat,
    steps: int,
    model: Model,
    active_set: ActiveSet,
    start: Tensor,
    loss: Callable[[ActiveSet, Tensor], Tensor],
    counts: bool = True,
) -> Tensor:
    """Auto-PGD on the active images from points [P,N,C,H,W] of `threat`; the best points it visits.

    Unless it `counts`, the threat is a wider one, and no point is marked as adversarial.
    """
    state = _State.begin(start, active_set.images, threat)
    checkpoints = dict(_checkpoints(steps))
    every = max(int(0.04 * steps), 1)
    for step in range(steps):
        if not active_set:
            return state.best_points
        logits, values, gradient = differentiate(model, state.points, partial(loss, active_set))
        state = state.visited(values, gradient)
        if counts:
            broken = misclassified(logits, active_set.labels)
            state = _State(*active_set.mark_adversarial(state.points, broken, *state))
        if threat.norm == "l1":
            if step > 0 and step % every == 0:
                state = state.checkpoint_l1(threat, active_set.images)
            state = state.step_l1(threat, active_set.images)
        else:
            if step in checkpoints:
                state = state.checkpoint(checkpoints[step])
            state = state.step(threat, active_set.images, momentum=MOMENTUM if step > 0 else 1.0)
    if active_set:
        logits = evaluate(model, state.points)
        state = state.visited(loss(active_set, logits), state.gradient)
        if counts:
            active_set.mark_adversarial(state.points, misclassified(logits, active_set.labels))
    return state.best_points


def _checkpoints(steps: int) -> Iterator[tuple[int, int]]:
    """(step, steps since the checkpoint before): at 22 %, then ever closer, down to every 6 %."""
    step, period = 0, max(int(0.22 * steps), 1)
    shrink, shortest = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    while step + period <= steps:
        step += period
        yield step, period
        period = max(period - shrink, shortest)
