"""Universal perturbations: one for all images, so that an attacker need not see what it fools.

No `Attack`s: those are evaluated on the images they work on, these on images never seen.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import (
    Array,
    Model,
    PerNetworkRNG,
    checked,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.deepfool import DeepFool
from attacks.losses import cross_entropy
from attacks.options import require_counts, require_positive, require_share
from attacks.threat import Threat


def perturbed(images: Tensor, perturbation: Tensor) -> Tensor:
    """Images [P,B,C,H,W] with a perturbation [P,C,H,W] each network, clipped to [0, 1]."""
    return (images + perturbation[:, None]).clamp_(0, 1)


@dataclass(frozen=True)
class Universal(ABC):
    """Passes over images in mini-batches, each of which moves the perturbation a little.

    Args:
        threat: whose ball the perturbation lies in.
        passes: over the images, at most; each is in an order of its own.
        target: a network is done when so large a share is fooled of the images it gets right.

    Raises:
        AttackError: an option out of range.
    """

    threat: Threat
    passes: int = 10
    target: float = 1.0

    def __post_init__(self) -> None:
        require_counts(self, "passes")
        require_share(self, "target")

    @property
    @abstractmethod
    def name(self) -> str:
        """As `UNIVERSAL` knows it."""

    @property
    @abstractmethod
    def _batch(self) -> int:
        """Images that decide one move."""

    @abstractmethod
    def _move(
        self, model: Model, images: Tensor, labels: Tensor, active: Tensor, perturbation: Tensor
    ) -> Tensor:
        """Where to move the perturbation [P,C,H,W], for images [P,b,C,H,W] and their labels.

        Only images that are active, bool [P,b], are worth fooling; without any it stays.
        """

    def describe(self) -> dict[str, Any]:
        """Name and every hyperparameter, threat included, as JSON can hold it."""
        return {"name": self.name, **asdict(self)}

    @torch.inference_mode(False)
    @torch.no_grad()
    def fit(self, model: Model, images: Array, labels: Array, seeds: Sequence[int]) -> Tensor:
        """Of the perturbations after each pass the one that fools most images, [P,C,H,W].

        Arguments and errors as for an attack (`Attack.__call__`); a network's result depends on
        its own seed and images only.
        """
        model, images, labels, seeds = checked(model, images, labels, seeds)
        rng = PerNetworkRNG(seeds, images.device)
        right = ~misclassified(evaluate(model, images), labels)
        perturbation = best = torch.zeros_like(images[:, 0])
        most = images.new_zeros(len(images))
        done = ~right.any(1)
        own = torch.arange(len(images), device=images.device)[:, None]
        for _ in range(self.passes):
            if done.all():
                break
            order = rng.uniform(labels.shape[1]).argsort(dim=-1, stable=True)
            for rows in order.split(self._batch, 1):
                at = own, rows
                active = right[at] & ~done[:, None]
                if active.any():
                    moved = self._move(model, images[at], labels[at], active, perturbation)
                    # Only where it moved: `into_ball` may change a point on the ball by a bit.
                    moves = active.any(1)[:, None, None, None]
                    perturbation = torch.where(moves, self.threat.into_ball(moved), perturbation)
            fooled = right & misclassified(evaluate(model, perturbed(images, perturbation)), labels)
            rate = fooled.sum(1) / right.sum(1).clamp_min(1)
            best = torch.where((rate >= most)[:, None, None, None], perturbation, best)
            most = torch.maximum(rate, most)
            done |= rate >= self.target
        return best


@dataclass(frozen=True)
class UniversalDeepFool(Universal):
    """Where an image is not fooled yet, DeepFool's way is added (Moosavi-Dezfooli et al. 2017).

    Args:
        steps, overshoot: of DeepFool.
    """

    steps: int = 10
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, "steps")
        require_positive(self, "overshoot")
        self._deepfool(1)  # refuses a norm that it does not know

    @property
    def name(self) -> str:
        return "universal-deepfool"

    @property
    def _batch(self) -> int:
        return 1

    def _deepfool(self, values: int) -> DeepFool:
        """It may go anywhere in [0, 1]; `values` are those of an image."""
        anywhere = Threat(self.threat.norm, 1.0 if self.threat.norm == "linf" else values**0.5)
        return DeepFool(anywhere, steps=self.steps, overshoot=self.overshoot)

    def _move(
        self, model: Model, images: Tensor, labels: Tensor, active: Tensor, perturbation: Tensor
    ) -> Tensor:
        points = perturbed(images, perturbation)
        logits = evaluate(model, points)
        active = active & ~misclassified(logits, labels)
        seeds = [0] * len(images)  # DeepFool draws nothing
        attack = self._deepfool(images[0, 0].numel())
        found = attack._attack(model, points, labels, logits, active, seeds).images
        return perturbation + (found - points)[:, 0]


@dataclass(frozen=True)
class UniversalGradient(Universal):
    """Steepest ascent on the mean clipped cross-entropy of mini-batches (Shafahi et al. 2020).

    Args:
        batch: images a step.
        step_size: length of a step in the threat's norm, relative to epsilon.
        clip: cross-entropy beyond which an image counts no more, so that a few images cannot
            outweigh the others.
    """

    batch: int = 64
    step_size: float = 0.1
    clip: float = 9.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, "batch")
        require_positive(self, "step_size", "clip")

    @property
    def name(self) -> str:
        return "universal-gradient"

    @property
    def _batch(self) -> int:
        return self.batch

    def _move(
        self, model: Model, images: Tensor, labels: Tensor, active: Tensor, perturbation: Tensor
    ) -> Tensor:
        gradient = differentiate(
            model,
            perturbed(images, perturbation),
            lambda logits: cross_entropy(logits, labels).clamp(max=self.clip) * active,
        )[2]
        total = gradient.sum(1, keepdim=True)
        return perturbation + self.threat.step(total, self.step_size * self.threat.epsilon)[:, 0]


UNIVERSAL = {"universal-deepfool": UniversalDeepFool, "universal-gradient": UniversalGradient}
