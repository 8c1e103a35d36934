"""Images that change a network's answer most, whatever is right: what TRADES trains on.

No `Attack`, for it does not look at labels: its points are there to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Array, Model, PerNetworkRNG, checked, differentiate, evaluate
from attacks.losses import divergence
from attacks.options import require_counts
from attacks.threat import Threat

START = 0.001
"""Standard deviation of the start's distance from the image, as in the authors' code."""


@dataclass(frozen=True)
class TRADES:
    """Steepest ascent on the divergence from the answer to the clean image (Zhang et al. 2019).

    "Theoretically principled trade-off between robustness and accuracy": the loss is the
    Kullback-Leibler divergence KL(p(x) || p(x')), and the start is near the image.

    Args:
        threat: what the points lie in.
        steps: gradient steps, each of length 2.5 * epsilon / steps, as by default of `PGD`.

    Raises:
        AttackError: no steps.
    """

    threat: Threat
    steps: int = 10

    def __post_init__(self) -> None:
        require_counts(self, "steps")

    @torch.inference_mode(False)
    @torch.no_grad()
    def perturb(self, model: Model, images: Array, labels: Array, seeds: Sequence[int]) -> Tensor:
        """Where the last step ends for every image, [P,B,C,H,W]: to train on.

        Arguments and errors as in `Attack.perturb`; the labels play no part.
        """
        model, images, _, seeds = checked(model, images, labels, seeds)
        clean = evaluate(model, images)
        noise = PerNetworkRNG(seeds, images.device).normal(*images.shape[1:])
        points = self.threat.project(images + START * noise.to(images.dtype), images)
        size = 2.5 * self.threat.epsilon / self.steps
        for _ in range(self.steps):
            gradient = differentiate(model, points, lambda z: divergence(clean, z))[2]
            points = self.threat.ascend(points, gradient, size, images)
        return points
