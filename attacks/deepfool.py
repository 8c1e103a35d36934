"""DeepFool: to the nearest boundary of the network made linear (Moosavi-Dezfooli et al. 2016)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import (
    Attack,
    AttackError,
    Draws,
    Model,
    Survivors,
    differentiate_each,
    evaluate,
    misclassified,
)
from attacks.error import require_counts, require_norm, require_positive
from attacks.losses import targeted_margin, wrong_classes
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

    roams = NORMS
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        require_counts(steps=self.steps)
        require_positive(overshoot=self.overshoot)
        require_norm(self.name, self.threat.norm, list(DUAL))
        if not isinstance(self.candidates, int) or self.candidates < 2:
            raise AttackError(
                f"expected candidates to be a whole number of at least 2, got {self.candidates!r}"
            )

    @property
    def name(self) -> str:
        return "deepfool"

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        wrong = wrong_classes(survivors.all_logits, survivors.all_labels)
        classes = survivors.pack(wrong[..., : self.candidates - 1])
        points = survivors.images
        for _ in range(self.steps):
            points = self._step(model, points, survivors, classes)
            # The points of the search only tend to the boundary. Were it they that go too far, as
            # in the official code, pixels held by [0, 1] would take back more than the overshoot.
            images = survivors.images
            beyond = (images + (1 + self.overshoot) * (points - images)).clamp_(0, 1)
            crossed = misclassified(evaluate(model, beyond), survivors.labels)
            inside = crossed & self.threat.contains(beyond, images)
            points, classes, crossed = survivors.drop(beyond, inside, points, classes, crossed)
            points, classes = survivors.release(crossed, points, classes)
            if not survivors:
                return

    def _step(self, model: Model, points: Tensor, survivors: Survivors, classes: Tensor) -> Tensor:
        """The nearest boundary to one of the classes [P,N,R], were there none but linear ones."""
        labels = survivors.labels
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
