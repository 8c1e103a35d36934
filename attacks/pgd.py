"""Projected gradient descent, the first attack to try."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks import losses
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
from attacks.error import require_counts, require_positive, unknown

LOSSES = {"ce": losses.cross_entropy, "margin": losses.margin}
AIMED = ("targeted", "random")
"""Losses that aim at one wrong class for each image."""


@dataclass(frozen=True)
class PGD(Attack):
    """Steepest ascent on the loss inside the threat (Madry et al. 2018).

    In l1 with sparse steps, that is SLIDE (Tramer, Boneh 2019), but for its projection.

    Args:
        steps: gradient steps a restart.
        step_size: length of a step in the threat's norm; None means 2.5 * epsilon / steps, which
            reaches the ball's surface from anywhere in it.
        restarts: runs from fresh starts, each on the images that survived those before.
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
        require_counts(steps=self.steps, restarts=self.restarts)
        if self.step_size is not None:
            require_positive(step_size=self.step_size)
        if self.loss not in (*LOSSES, *AIMED):
            raise unknown("loss", self.loss, (*LOSSES, *AIMED))
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

    @torch.no_grad()
    def perturb(self, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """The last point of one restart, for every image, [P,B,C,H,W]: for adversarial training.

        Nothing is dropped or judged; no forward pass but those of the steps (and one more to aim).
        Arguments and errors as in `__call__`.
        """
        images, labels = checked(images, labels, seeds)
        draws, targets = Draws(seeds, images.device), None
        if self.loss in AIMED:
            targets = self._targets(evaluate(model, images), labels, 0, draws)
        points = self._start(images, draws)
        for _ in range(self.steps):
            gradient = self._differentiate(
                model, points, lambda logits: self._loss(logits, labels, targets)
            )[1]
            points = self.threat.ascend(points, gradient, self.size, images)
        return points

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        for restart in range(self.restarts):
            targets = None
            if self.loss in AIMED:
                logits, labels = survivors.all_logits, survivors.all_labels
                targets = self._targets(logits, labels, restart, draws)
            self._restart(model, survivors, draws, targets)

    def _restart(
        self, model: Model, survivors: Survivors, draws: Draws, targets: Tensor | None
    ) -> None:
        def loss(logits: Tensor) -> Tensor:
            packed = None if targets is None else survivors.pack(targets)
            return self._loss(logits, survivors.labels, packed)

        points = survivors.pack(self._start(survivors.all_images, draws))
        for _ in range(self.steps):
            if not survivors:
                return
            logits, gradient = self._differentiate(model, points, loss)
            broken = self._breaks(model, points, survivors.labels, logits)
            points, gradient = survivors.drop(points, broken, points, gradient)
            points = self.threat.ascend(points, gradient, self.size, survivors.images)
        if survivors:
            survivors.drop(points, self._breaks(model, points, survivors.labels))

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

    def _targets(self, logits: Tensor, labels: Tensor, restart: int, draws: Draws) -> Tensor:
        """The wrong class each image is pushed towards, [P,B]; `logits` of the clean images."""
        wrong = losses.wrong_classes(logits, labels)
        if self.loss == "targeted":
            return wrong[..., restart % wrong.shape[-1]]
        drawn = (draws.uniform(labels.shape[1]) * wrong.shape[-1]).long()
        return wrong.gather(-1, drawn[..., None]).squeeze(-1)

    def _start(self, images: Tensor, draws: Draws) -> Tensor:
        return self.threat.random_start(images, draws) if self.random_start else images

    def _loss(self, logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        if targets is not None:
            return losses.targeted_margin(logits, labels, targets)
        return LOSSES[self.loss](logits, labels)
