"""Projected gradient descent, the first attack to try."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attacks import losses
from attacks.base import (
    ActiveSet,
    Attack,
    AttackError,
    Model,
    PerNetworkRNG,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.errors import require_known
from attacks.options import require_counts, require_flags, require_positive

LOSSES = {"ce": losses.cross_entropy, "margin": losses.margin}
TARGETED = ("targeted", "random")
"""Losses that aim at one wrong class for each image."""


@dataclass(frozen=True)
class PGD(Attack):
    """Steepest ascent on the loss inside the threat (Madry et al. 2018).

    In l1 with sparse steps, that is SLIDE (Tramer, Boneh 2019), but for its projection.

    Args:
        steps: gradient steps a restart.
        step_size: length of a step in the threat's norm; None means 2.5 * epsilon / steps, which
            reaches the ball's surface from anywhere in it.
        restarts: runs from fresh starts, each on the images that are still robust.
        loss: "ce"; "margin", max_{j != y} z_j - z_y; "targeted", z_t - z_y with t the (r+1)-th
            likeliest wrong class of the clean image in restart r = 0, 1, ..., the likeliest again
            after the last; or "random", the same with t drawn for every image and restart.
        random_start: begin at a random point of the threat, not at the clean image.

    Raises:
        AttackError: an option out of range, or restarts that would all be the same.
    """

    steps: int = 50
    step_size: float | None = None
    restarts: int = 1
    loss: str = "ce"
    random_start: bool = True

    def __post_init__(self) -> None:
        require_counts(self, "steps", "restarts")
        require_flags(self, "random_start")
        if self.step_size is not None:
            require_positive(self, "step_size")
        require_known("loss", self.loss, (*LOSSES, *TARGETED))
        if self.restarts > 1 and not self.random_start and self.loss != "targeted":
            raise AttackError(
                f"expected 1 restart without a random start, got {self.restarts}: all the same"
            )

    @property
    def name(self) -> str:
        loss = "" if self.loss == "ce" else f"-{self.loss}"
        return f"pgd{loss}-{self.steps}-{self.restarts}"

    @property
    def size(self) -> float:
        """Length of a step, the default filled in."""
        default = 2.5 * self.threat.epsilon / self.steps
        return default if self.step_size is None else self.step_size

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "step_size": self.size}

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The last point of one restart, for every image, [P,B,C,H,W]: for adversarial training.

        No forward pass but those of the steps, and one more where a wrong class is aimed at.
        """
        targets = None
        if self.loss in TARGETED:
            targets = self._targets(evaluate(model, images), labels, 0, rng)
        points = self._start(images, rng)
        for _ in range(self.steps):
            gradient = self._differentiate(
                model, points, lambda logits: self._loss(logits, labels, targets)
            )[1]
            points = self.threat.ascend(points, gradient, self.size, images)
        return points

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        for restart in range(self.restarts):
            targets = None
            if self.loss in TARGETED:
                logits, labels = active_set.all_logits, active_set.all_labels
                targets = self._targets(logits, labels, restart, rng)
            self._restart(model, active_set, rng, targets)

    def _restart(
        self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG, targets: Tensor | None
    ) -> None:
        def loss(logits: Tensor) -> Tensor:
            packed = None if targets is None else active_set.pack(targets)
            return self._loss(logits, active_set.labels, packed)

        points = active_set.pack(self._start(active_set.all_images, rng))
        for _ in range(self.steps):
            if not active_set:
                return
            logits, gradient = self._differentiate(model, points, loss)
            broken = self._breaks(model, points, active_set.labels, logits)
            points, gradient = active_set.mark_adversarial(points, broken, points, gradient)
            points = self.threat.ascend(points, gradient, self.size, active_set.images)
        if active_set:
            active_set.mark_adversarial(points, self._breaks(model, points, active_set.labels))

    def _differentiate(
        self, model: Model, points: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The logits [P,N,K] at the points and the loss's gradient [P,N,C,H,W]."""
        logits, _, gradient = differentiate(model, points, loss)
        return logits, gradient

    def _breaks(
        self, model: Model, points: Tensor, labels: Tensor, logits: Tensor | None = None
    ) -> Tensor:
        """Where the points break the model, bool [P,N]; `logits` there, where known."""
        return misclassified(evaluate(model, points) if logits is None else logits, labels)

    def _targets(self, logits: Tensor, labels: Tensor, restart: int, rng: PerNetworkRNG) -> Tensor:
        """The wrong class each image is pushed towards, [P,B]; `logits` of the clean images."""
        wrong = losses.wrong_classes(logits, labels)
        if self.loss == "targeted":
            return wrong[..., restart % wrong.shape[-1]]
        drawn = (rng.uniform(labels.shape[1]) * wrong.shape[-1]).long()
        return wrong.gather(-1, drawn[..., None]).squeeze(-1)

    def _start(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        return self.threat.random_start(images, rng) if self.random_start else images

    def _loss(self, logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        if targets is not None:
            return losses.targeted_margin(logits, labels, targets)
        return LOSSES[self.loss](logits, labels)
