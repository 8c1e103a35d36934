"""Square: random search with square patches, no gradient (Andriushchenko et al. 2020)."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    evaluate,
    misclassified,
)
from attacks.error import require_counts
from attacks.survivors import Everyone

# The share of pixels in a square halves after each of these queries (of 10,000, if rescaled).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

# Queries whose random numbers are drawn at once: one by one, the generators would set the pace.
BLOCK = 50


@dataclass(frozen=True)
class Square(Attack):
    """Score-based random search on the margin loss, l-inf (Andriushchenko et al. 2020).

    Starts from vertical stripes of +-epsilon; every query sets one square of each image to
    +-epsilon, a sign a channel, and keeps it where the margin grew. Window and signs are drawn for
    each image on its own, from all that fit in it (the official code spares the last row and
    column).

    Args:
        queries: forward passes an image, the stripes included.
        p_init: share of an image's pixels in the first squares, in (0, 1].
        rescale: run through the whole schedule of square sizes in `queries`; otherwise it is the
            one for 10,000 queries, cut off, which is how AutoAttack uses it.

    Raises:
        AttackError: another norm than l-inf, or an option out of range.
    """

    queries: int = 5000
    p_init: float = 0.8
    rescale: bool = True

    def __post_init__(self) -> None:
        require_counts(queries=self.queries)
        if self.threat.norm != "linf":
            raise AttackError(f"square knows the norm 'linf' only, got {self.threat.norm!r}")
        if not 0 < self.p_init <= 1:
            raise AttackError(f"expected p_init in (0, 1], got {self.p_init!r}")

    @property
    def name(self) -> str:
        return "square"

    @torch.no_grad()
    def perturb(self, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """The point of the greatest margin among the queries, for every image, [P,B,C,H,W]."""
        images, labels = checked(images, labels, seeds)
        return self._search(model, Everyone(images, labels), Draws(seeds, images.device))

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        self._search(model, survivors, draws)

    def _search(self, model: Model, survivors: Survivors, draws: Draws) -> Tensor:
        """The best points of those never dropped."""
        batch, channels, height, width = survivors.all_images.shape[1:]
        # Every pixel is at one end of its range from the stripes on, so to add +-2 epsilon and
        # project, as the paper does, is to choose an end.
        lower, upper = self.threat.bounds(survivors.images)
        stripes = survivors.pack(draws.uniform(batch, channels, 1, width))
        points = best = torch.where(stripes < 0.5, lower, upper)
        best_margin = torch.full_like(best[..., 0, 0, 0], -torch.inf)
        proposals = _uniforms(draws, batch, 2 + channels)
        for query in range(self.queries):
            if query > 0:
                drawn = survivors.pack(next(proposals))
                corner, signs = drawn[..., :2], drawn[..., 2:, None, None]
                square = _window(corner, self._side(query - 1, height, width), height, width)
                points = torch.where(square, torch.where(signs < 0.5, lower, upper), best)
            logits = evaluate(model, points)
            margin = losses.margin(logits, survivors.labels)
            better = margin > best_margin
            best = torch.where(better[..., None, None, None], points, best)
            best_margin = torch.where(better, margin, best_margin)
            broken = misclassified(logits, survivors.labels)
            best, best_margin, lower, upper = survivors.drop(
                points, broken, best, best_margin, lower, upper
            )
            if not survivors:
                break
        return best

    def _side(self, proposal: int, height: int, width: int) -> int:
        """Side of the squares of a proposal 0, 1, ..., in pixels."""
        if self.rescale:
            proposal = int(proposal / self.queries * 10_000)
        share = self.p_init / 2 ** bisect_left(HALVINGS, proposal)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _uniforms(draws: Draws, *shape: int) -> Iterator[Tensor]:
    """Uniforms [P, *shape], again and again."""
    while True:
        yield from draws.uniform(BLOCK, *shape).unbind(1)


def _window(corner: Tensor, side: int, height: int, width: int) -> Tensor:
    """Where the squares are, bool [P,N,1,H,W], their corners given by uniforms [P,N,2]."""
    sizes = torch.tensor([height - side + 1, width - side + 1], device=corner.device)
    top, left = (corner * sizes).long().unbind(-1)
    rows = torch.arange(height, device=corner.device) - top[..., None]
    columns = torch.arange(width, device=corner.device) - left[..., None]
    in_rows, in_columns = ((at >= 0) & (at < side) for at in (rows, columns))
    return (in_rows[..., :, None] & in_columns[..., None, :]).unsqueeze(2)
