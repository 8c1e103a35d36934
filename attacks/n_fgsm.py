"""Noise, then one step that nothing cuts back: what N-FGSM trains on.

No `Attack`, for its points leave the threat: they are there to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Array, Model, PerNetworkRNG, checked, differentiate
from attacks.losses import cross_entropy
from attacks.options import require_nonnegative, require_norm
from attacks.threat import Threat


@dataclass(frozen=True)
class NFGSM:
    """One step of length epsilon from a noisy image, without projection (de Jorge et al. 2022).

    "Make some noise: reliable and efficient single-step adversarial training": the noise is drawn
    from a ball wider than the threat, and the end is only kept in [0, 1]. Networks trained on such
    points do not lose their robustness from one epoch to the next, as those of FBF can.

    Args:
        threat: in linf, for which it was published, or l2; its radius is that of the step.
        noise: radius of the noise, relative to epsilon.

    Raises:
        AttackError: another norm, or a noise that is negative or not finite.
    """

    threat: Threat
    noise: float = 2.0
    steps = 1

    def __post_init__(self) -> None:
        require_norm("n-fgsm", self.threat.norm, ["linf", "l2"])
        require_nonnegative(self, "noise")

    @torch.inference_mode(False)
    @torch.no_grad()
    def perturb(self, model: Model, images: Array, labels: Array, seeds: Sequence[int]) -> Tensor:
        """A point for every image, at most (1 + noise) * epsilon from it, [P,B,C,H,W].

        Arguments and errors as in `Attack.perturb`.
        """
        model, images, labels, seeds = checked(model, images, labels, seeds)
        wide = Threat(self.threat.norm, self.noise * self.threat.epsilon)
        points = wide.random_offset(images, PerNetworkRNG(seeds, images.device))
        points = (images + points).clamp_(0, 1)
        gradient = differentiate(model, points, lambda z: cross_entropy(z, labels))[2]
        return (points + self.threat.step(gradient, self.threat.epsilon)).clamp_(0, 1)
