"""PGD on models that answer at random: expectation over their draws (Athalye et al. 2018)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Model, differentiate, evaluate, misclassified
from attacks.options import require_counts
from attacks.pgd import PGD


@dataclass(frozen=True)
class EOTPGD(PGD):
    """PGD along the mean gradient over draws of a randomised model, one call of it a draw.

    (Athalye et al. 2018; Liu et al. 2018; Zimmermann 2019.) A point breaks the model when the mean
    soft-max over the draws that gave its gradient picks a wrong class, and again over as many fresh
    ones: plain PGD counts an image as broken at the first unlucky draw, wherever it is then. For a
    model that is not random it is PGD, at a multiple of the cost.

    What holds for randomised models: images that one draw gets wrong while clean are not attacked,
    and the check of the result is one more draw for every image, at the point found or else the
    clean one, that the search has not seen. So `robust_mask` is right on average for the points
    returned, an image that is broken in the mean may count as robust, and results depend on the
    model's own randomness besides the seeds: average over several runs.

    Args:
        samples: draws a gradient, and a verdict.
        steps, step_size, restarts, loss, random_start: as in `PGD`.

    Raises:
        AttackError: as `PGD`, or samples below 1.
    """

    samples: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, "samples")

    @property
    def name(self) -> str:
        return f"eot-{super().name}"

    def _differentiate(
        self, model: Model, points: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The mean soft-max [P,N,K] and the gradients' sum, which points where their mean does."""
        total, probabilities = torch.zeros_like(points), []
        for _ in range(self.samples):
            logits, _, gradient = differentiate(model, points, loss)
            total += gradient
            probabilities.append(logits.softmax(-1))
        return torch.stack(probabilities).mean(0), total

    def _breaks(
        self, model: Model, points: Tensor, labels: Tensor, logits: Tensor | None = None
    ) -> Tensor:
        if logits is not None:
            suspected = misclassified(logits, labels)
            # With a verdict at every step, some would be wrong by luck: it takes two that agree.
            return suspected & self._breaks(model, points, labels) if suspected.any() else suspected
        answers = [evaluate(model, points).softmax(-1) for _ in range(self.samples)]
        return misclassified(torch.stack(answers).mean(0), labels)
