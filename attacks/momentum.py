"""MI-FGSM: sign steps along a running sum of gradients (Dong et al. 2018)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import (
    Attack,
    AttackError,
    Draws,
    Model,
    Survivors,
    checked,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.error import require_counts, require_norm, require_positive
from attacks.losses import cross_entropy
from attacks.survivors import Everyone


@dataclass(frozen=True)
class MomentumFGSM(Attack):
    """Momentum iterative FGSM, from the clean image (Dong et al. 2018).

    Its points carry over to other models better than PGD's; on the model itself PGD is stronger.

    Args:
        steps: gradient steps.
        step_size: length of a step in the threat's norm; None means epsilon / steps, as published.
        decay: what is kept of the sum of gradients at each step, >= 0; 0 is iterative FGSM.

    Raises:
        AttackError: another norm than l-inf and l2, or an option out of range.
    """

    steps: int = 10
    step_size: float | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        require_norm("mi-fgsm", self.threat.norm, ["linf", "l2"])
        require_counts(steps=self.steps)
        if self.step_size is not None:
            require_positive(step_size=self.step_size)
        if not 0 <= self.decay < math.inf:
            raise AttackError(f"expected a finite decay >= 0, got {self.decay!r}")

    @property
    def name(self) -> str:
        return f"mi-fgsm-{self.steps}"

    @property
    def size(self) -> float:
        """Length of a step, the default filled in."""
        return self.threat.epsilon / self.steps if self.step_size is None else self.step_size

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "step_size": self.size}

    @torch.no_grad()
    def perturb(self, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """The last point for every image, [P,B,C,H,W]; arguments and errors as in `__call__`."""
        images, labels = checked(images, labels, seeds)
        return self._ascend(model, Everyone(images, labels))

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        points = self._ascend(model, survivors)
        if survivors:
            survivors.drop(points, misclassified(evaluate(model, points), survivors.labels))

    def _ascend(self, model: Model, survivors: Survivors) -> Tensor:
        """The last points of those never dropped."""
        points, momentum = survivors.images, torch.zeros_like(survivors.images)
        for _ in range(self.steps):
            if not survivors:
                break
            logits, _, gradient = differentiate(
                model, points, lambda logits: cross_entropy(logits, survivors.labels)
            )
            momentum = self.decay * momentum + _normalised(gradient)
            broken = misclassified(logits, survivors.labels)
            points, momentum = survivors.drop(points, broken, points, momentum)
            points = self.threat.ascend(points, momentum, self.size, survivors.images)
        return points


def _normalised(gradient: Tensor) -> Tensor:
    """The gradient over its mean absolute value (published: the sum, which differs by a factor).

    Zero where the gradient is: without a floor, one zero gradient on the way would make the sum NaN
    for good.
    """
    mean = gradient.abs().mean((-3, -2, -1), keepdim=True)
    return gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny)
