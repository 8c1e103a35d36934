"""DeepFool: to the nearest boundary of the network made linear (Moosavi-Dezfooli et al. 2016)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import (
    ActiveSet,
    Attack,
    Model,
    PerNetworkRNG,
    differentiate_each,
    evaluate,
    misclassified,
)
from attacks.losses import targeted_margin, wrong_classes
from attacks.options import require_counts, require_norm, require_positive
from attacks.threat import NORMS

DUAL = {"linf": 1, "l2": 2}
"""The norm of a gradient that is its greatest rise over a unit of distance."""


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest linearised boundary until the class changes (Moosavi-Dezfooli 2016).

    It looks for a near example of its own accord: epsilon only decides whether that one counts.

    Args:
        steps: linearisations at most; an image whose class has changed needs no more.
        candidates: how many classes are considered, the likeliest of the clean image first and the
            label among them, as published. A step costs candidates - 1 gradients.
        overshoot: how far beyond a boundary to step, as a share of the way to it.

    Raises:
        AttackError: another norm than l-inf and l2, or an option out of range.
    """

    unconstrained_norms = NORMS
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        require_counts(self, "steps")
        require_counts(self, "candidates", least=2)
        require_positive(self, "overshoot")
        require_norm(self.name, self.threat.norm, list(DUAL))

    @property
    def name(self) -> str:
        return "deepfool"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        wrong = wrong_classes(active_set.all_logits, active_set.all_labels)
        classes = active_set.pack(wrong[..., : self.candidates - 1])
        points = active_set.images
        for _ in range(self.steps):
            points = self._step(model, points, active_set, classes)
            # The points of the search only tend to the boundary. Were it they that go too far, as
            # in the official code, pixels held by [0, 1] would take back more than the overshoot.
            images = active_set.images
            beyond = (images + (1 + self.overshoot) * (points - images)).clamp_(0, 1)
            crossed = misclassified(evaluate(model, beyond), active_set.labels)
            inside = crossed & self.threat.contains(beyond, images)
            points, classes, crossed = active_set.mark_adversarial(
                beyond, inside, points, classes, crossed
            )
            points, classes = active_set.deactivate(crossed, points, classes)
            if not active_set:
                return

    def _step(self, model: Model, points: Tensor, active_set: ActiveSet, classes: Tensor) -> Tensor:
        """The nearest boundary to one of the classes [P,N,R], were there none but linear ones."""
        labels = active_set.labels
        _, gaps, normals = differentiate_each(
            model,
            points,
            lambda logits: [targeted_margin(logits, labels, to) for to in classes.unbind(-1)],
        )
        distance, normal = torch.full_like(gaps[0], torch.inf), torch.zeros_like(points)
        for gap, slope in zip(gaps, normals, strict=True):
            steepness = torch.linalg.vector_norm(slope, DUAL[self.threat.norm], (-3, -2, -1))
            # Where the network is flat, no boundary is in sight, and if it is for all, the image
            # stays.
            away = torch.where(steepness > 0, gap.abs() / steepness, torch.inf)
            nearer = away < distance
            distance = torch.where(nearer, away, distance)
            normal = torch.where(nearer[..., None, None, None], slope, normal)
        size = distance.nan_to_num(posinf=0.0)[..., None, None, None]
        return (points + self.threat.step(normal, size)).clamp_(0, 1)
