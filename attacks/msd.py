"""Multi steepest descent: one search through the balls of several norms at once.

No `Attack`, for these judge within one threat: its points are there to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Array, AttackError, Model, checked, differentiate
from attacks.errors import shown
from attacks.losses import cross_entropy
from attacks.model import worst
from attacks.options import require_counts
from attacks.threat import Threat


@dataclass(frozen=True)
class MSD:
    """Steepest ascent that may take each step in another norm (Maini, Wong, Kolter 2020).

    "Adversarial robustness against the union of multiple perturbation models": a step goes from
    where the last one ended up the gradient of the cross-entropy in each norm, is brought back to
    that norm's ball, and of the ends the one of highest loss is kept. It starts at the clean image.

    The authors train on MNIST with radii linf 0.3, l2 2, l1 10 by 100 steps of length 0.01, 0.1 and
    1, those in l1 along 5 to 20 pixels, for 15 epochs (locuslab/robust_union, MNIST/train.py).

    Args:
        threats: one a norm; a point returned lies in one of them.
        steps: gradient steps, each of length 2.5 * epsilon / steps, as by default of `PGD`.

    Raises:
        AttackError: no threats, something else among them, or no steps.
    """

    threats: tuple[Threat, ...]
    steps: int = 50

    def __post_init__(self) -> None:
        require_counts(self, "steps")
        threats = self.threats
        if not isinstance(threats, tuple) or not all(isinstance(t, Threat) for t in threats):
            raise AttackError(f"expected a tuple of threats, got {shown(threats)}")
        if not threats:
            raise AttackError("expected at least one threat, got none")

    @torch.inference_mode(False)
    @torch.no_grad()
    def perturb(self, model: Model, images: Array, labels: Array, seeds: Sequence[int]) -> Tensor:
        """Where the last step ends for every image, [P,B,C,H,W]: to train on.

        Arguments and errors as in `Attack.perturb`; nothing is random, whatever the seeds.
        """
        model, images, labels, _ = checked(model, images, labels, seeds)
        points = images
        for _ in range(self.steps):
            gradient = differentiate(model, points, lambda z: cross_entropy(z, labels))[2]
            ends = [
                threat.ascend(points, gradient, 2.5 * threat.epsilon / self.steps, images)
                for threat in self.threats
            ]
            points = worst(model, ends, labels, cross_entropy)
        return points
