"""FAB: back and forth across the boundary, ever nearer to the image (Croce, Hein 2020)."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
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
from attacks.losses import targeted_margin, wrong_classes
from attacks.options import require_counts
from attacks.threat import NORMS

# As published for every norm and data set.
ALPHA_MAX = 0.1  # the greatest weight of the step that starts at the image itself
ETA = 1.05  # how far to go relative to the linearised boundary
BETA = 0.9  # how much of the way an example is left after going back towards the image


@dataclass(frozen=True)
class TargetedFAB(Attack):
    """Fast adaptive boundary attack, one wrong class after another, as AutoAttack runs it.

    It follows the boundary to the target towards the point nearest to the image, and needs no step
    size (Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
    attack"). An image is done with at the first example within epsilon. Without random restarts
    nor the paper's final search, as in AutoAttack.

    Args:
        steps: linearisations a target.
        targets: how many wrong classes to aim at, the likeliest of the clean image first; at most
            K - 1 are used. Each is tried on the images that are still robust.

    Raises:
        AttackError: an option out of range.
    """

    unconstrained_norms = NORMS
    steps: int = 100
    targets: int = 9

    def __post_init__(self) -> None:
        require_counts(self, "steps", "targets")

    @property
    def name(self) -> str:
        return "fab-t"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        wrong = wrong_classes(active_set.all_logits, active_set.all_labels)
        for target in wrong[..., : self.targets].unbind(-1):
            if active_set:
                self._approach(model, active_set, target)

    def _approach(self, model: Model, active_set: ActiveSet, target: Tensor) -> None:
        """One run towards the targets [P,B], from the clean images."""
        points = active_set.images
        aims = active_set.pack(target)
        for _ in range(self.steps):
            images, labels = active_set.images, active_set.labels
            loss = partial(targeted_margin, labels=labels, targets=aims)
            _, gaps, normals = differentiate(model, points, loss)
            points = self._step(points, images, gaps, normals)
            broken = misclassified(evaluate(model, points), labels)
            # Back towards the image; what goes to `mark_adversarial` is the example itself.
            back = torch.where(
                broken[..., None, None, None], images + BETA * (points - images), points
            )
            inside = broken & self.threat.contains(points, images)
            points, aims = active_set.mark_adversarial(points, inside, back, aims)
            if not active_set:
                return

    def _step(self, points: Tensor, images: Tensor, gaps: Tensor, normals: Tensor) -> Tensor:
        """From `points`, where the gap is as given, over the linearised boundary."""
        norm = self.threat.norm
        far = gaps + (normals * (images - points)).sum((-3, -2, -1))
        from_points = to_hyperplane(norm, points, normals, gaps)
        from_images = to_hyperplane(norm, images, normals, far)
        # The nearer the point is to the boundary, compared with the image, the less of a pull.
        ways = [self.threat.length(way).clamp_min(1e-8) for way in (from_points, from_images)]
        alpha = (ways[0] / (ways[0] + ways[1])).clamp_max(ALPHA_MAX)[..., None, None, None]
        ahead = torch.lerp(points + ETA * from_points, images + ETA * from_images, alpha)
        return ahead.clamp_(0, 1)


def to_hyperplane(norm: str, points: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    """The shortest way within [0, 1] to where a linear function is 0; [P,N,C,H,W].

    Where it is nowhere 0, the way to where it comes nearest.

    Args:
        norm: "linf", "l2" or "l1".
        points: within [0, 1], [P,N,C,H,W].
        normals: the function's gradients, [P,N,C,H,W].
        gaps: its values at the points, [P,N].
    """
    limits = torch.finfo(points.dtype)
    normals = -gaps.sign()[..., None, None, None] * normals
    # The scale is free; with this one, no square overflows.
    scale = normals.abs().amax((-3, -2, -1)).clamp_min(limits.tiny)
    normals = (normals / scale[..., None, None, None]).flatten(-3)
    lacking = (gaps.abs() / scale)[..., None]
    slopes, ways = normals.abs(), normals.sign()
    room = (ways.clamp_min(0) - points.flatten(-3)).abs()  # to 1 or to 0
    move = _one_by_one if norm == "l1" else partial(_together, norm)
    return (ways * move(slopes, room, lacking)).view_as(points)


def _together(norm: str, slopes: Tensor, room: Tensor, lacking: Tensor) -> Tensor:
    """How far each pixel goes, [P,N,D] as its slope and room are, to gain `lacking`, [P,N,1]."""
    limits = torch.finfo(slopes.dtype)
    # Pixels set out together, each at its pace, and stop at the end of their room. What they gain
    # by then is concave and piecewise linear in time, so that Newton's method from the start never
    # goes too far, and has arrived when no more pixels have stopped; sorting them takes far longer.
    paces = slopes if norm == "l2" else slopes.sign()
    stops = room / paces  # of no matter where the slope is 0
    held, speeds = slopes * room, slopes * paces
    time, moving, stopped = (
        torch.zeros_like(lacking),
        torch.empty_like(room),
        torch.empty_like(room),
    )
    while True:
        # As numbers: on a CPU, to choose by a random mask takes 20 times as long as to multiply.
        torch.gt(stops, time, out=moving)
        torch.le(stops, time, out=stopped)
        rest = lacking - torch.linalg.vecdot(held, stopped)[..., None]
        speed = torch.linalg.vecdot(speeds, moving)[..., None]
        ahead = (rest / speed.clamp_min(limits.tiny)).clamp_max(limits.max).maximum(time)
        if torch.equal(ahead, time):
            return torch.minimum(time * paces, room)
        time = ahead


def _one_by_one(slopes: Tensor, room: Tensor, lacking: Tensor) -> Tensor:
    """As `_together`, but the steepest goes first and the others only when its room is used up."""
    slopes, order = slopes.sort(stable=True, dim=-1, descending=True)
    room = room.gather(-1, order)
    before = F.pad((slopes * room).cumsum(-1), (1, -1))
    rest = (lacking - before).clamp_min(0)
    moves = torch.minimum(rest / slopes.clamp_min(torch.finfo(slopes.dtype).tiny), room)
    return torch.zeros_like(moves).scatter(-1, order, moves)
