"""MI-FGSM: sign steps along a running sum of gradients (Dong et al. 2018)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
from attacks.losses import cross_entropy
from attacks.options import (
    require_counts,
    require_nonnegative,
    require_norm,
    require_positive,
)


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
        require_counts(self, "steps")
        if self.step_size is not None:
            require_positive(self, "step_size")
        require_nonnegative(self, "decay")

    @property
    def name(self) -> str:
        return f"mi-fgsm-{self.steps}"

    @property
    def size(self) -> float:
        """Length of a step, the default filled in."""
        return self.threat.epsilon / self.steps if self.step_size is None else self.step_size

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "step_size": self.size}

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The last point for every image, [P,B,C,H,W]."""
        return self._ascend(model, FullBatch(images, labels))

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        points = self._ascend(model, active_set)
        if active_set:
            active_set.mark_adversarial(
                points, misclassified(evaluate(model, points), active_set.labels)
            )

    def _ascend(self, model: Model, active_set: ActiveSet) -> Tensor:
        """The last points of the images that stay active."""
        points, momentum = active_set.images, torch.zeros_like(active_set.images)
        for _ in range(self.steps):
            if not active_set:
                break
            logits, _, gradient = differentiate(
                model, points, lambda logits: cross_entropy(logits, active_set.labels)
            )
            momentum = self.decay * momentum + _normalised(gradient)
            broken = misclassified(logits, active_set.labels)
            points, momentum = active_set.mark_adversarial(points, broken, points, momentum)
            points = self.threat.ascend(points, momentum, self.size, active_set.images)
        return points


def _normalised(gradient: Tensor) -> Tensor:
    """The gradient over its mean absolute value (published: the sum, which differs by a factor).

    Zero where the gradient is: without a floor, one zero gradient on the way would make the sum NaN
    for good.
    """
    mean = gradient.abs().mean((-3, -2, -1), keepdim=True)
    return gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny)
