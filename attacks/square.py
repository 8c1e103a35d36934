"""Square: random search with square patches, no gradient (Andriushchenko et al. 2020)."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from attacks import losses
from attacks.active_set import FullBatch
from attacks.base import (
    ActiveSet,
    Attack,
    Model,
    PerNetworkRNG,
    evaluate,
    misclassified,
)
from attacks.options import require_counts, require_flags, require_share

# The share of pixels in a square halves after each of these queries (of 10,000, if rescaled).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

# The exponent of the norms whose balls share a budget among the pixels.
ORDERS = {"l2": 2, "l1": 1}

# Below any length that a perturbation has, to divide by.
TINY = 1e-12

# Queries whose random numbers are drawn at once: one by one, the generators would set the pace.
BLOCK = 50


@dataclass(frozen=True)
class Square(Attack):
    """Score-based random search on the margin loss (Andriushchenko et al. 2020).

    In l-inf, starts from vertical stripes of +-epsilon; every query sets one square of each image
    to +-epsilon, a sign a channel, and keeps it where the margin grew.

    In l2, starts from a grid of patterns, each a bright and a dark half; every query takes the
    budget of two windows, and what the image has left, to mix a new pattern into the first, and
    clears the second. In l1 the same, with sharper patterns and the projection of "Mind the box"
    (Croce, Hein 2021).

    Windows, signs and ways up are drawn for each image on its own, from all that fit in it (the
    official code spares the last row and column, and draws windows for the whole batch).

    Args:
        queries: forward passes an image, the stripes included.
        p_init: share of an image's pixels in the first squares, in (0, 1]. In l2 and l1 their sides
            are odd and 3 at least.
        rescale: run through the whole schedule of square sizes in `queries`; otherwise it is the
            one for 10,000 queries, cut off, which is how AutoAttack uses it.

    Raises:
        AttackError: an option out of range.
    """

    queries: int = 5000
    p_init: float = 0.8
    rescale: bool = True

    def __post_init__(self) -> None:
        require_counts(self, "queries")
        require_flags(self, "rescale")
        require_share(self, "p_init")

    @property
    def name(self) -> str:
        return "square"

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The point of the greatest margin among the queries, for every image, [P,B,C,H,W]."""
        return self._search(model, FullBatch(images, labels), rng)

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        self._search(model, active_set, rng)

    def _search(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> Tensor:
        """The best points of the images that stay active."""
        batch, channels, height, width = active_set.all_images.shape[1:]
        linf = self.threat.norm == "linf"
        start = self._stripes if linf else self._tiles
        propose: Callable[..., Tensor] = self._set if linf else self._exchange
        # What a proposal must know of the images, which for the bounds is worth keeping.
        known = self.threat.bounds(active_set.images) if linf else (active_set.images,)
        points = best = active_set.pack(start(active_set.all_images, rng))
        best_margin = torch.full_like(best[..., 0, 0, 0], -torch.inf)
        proposals = _uniforms(rng, batch, (2 if linf else 5) + channels)
        for query in range(self.queries):
            if query > 0:
                drawn = active_set.pack(next(proposals))
                side = self._side(query - 1, height, width)
                points = propose(best, drawn, side, *known)
            logits = evaluate(model, points)
            margin = losses.margin(logits, active_set.labels)
            better = margin > best_margin
            best = torch.where(better[..., None, None, None], points, best)
            best_margin = torch.where(better, margin, best_margin)
            broken = misclassified(logits, active_set.labels)
            best, best_margin, *known = active_set.mark_adversarial(
                points, broken, best, best_margin, *known
            )
            if not active_set:
                break
        return best

    def _side(self, proposal: int, height: int, width: int) -> int:
        """Side of the squares of a proposal 0, 1, ..., in pixels."""
        if self.rescale:
            proposal = int(proposal / self.queries * 10_000)
        share = self.p_init / 2 ** bisect_left(HALVINGS, proposal)
        side = round(math.sqrt(share * height * width))
        side = max(side, 1) if self.threat.norm == "linf" else max(side, 3) // 2 * 2 + 1
        return min(side, height, width)

    def _stripes(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The start in l-inf, [P,B,C,H,W]."""
        # Every pixel is at one end of its range from the stripes on, so to add +-2 epsilon and
        # project, as the paper does, is to choose an end.
        lower, upper = self.threat.bounds(images)
        stripes = rng.uniform(*images.shape[1:3], 1, images.shape[-1])
        return torch.where(stripes < 0.5, lower, upper)

    def _set(self, best: Tensor, drawn: Tensor, side: int, lower: Tensor, upper: Tensor) -> Tensor:
        """`best` with a square of each image set anew, as uniforms [P,N,2+C] have it."""
        corner, signs = drawn[..., :2], drawn[..., 2:, None, None]
        square = _window(corner, side, *best.shape[-2:])
        return torch.where(square, torch.where(signs < 0.5, lower, upper), best)

    def _tiles(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        """The start in l2 and l1: patterns side by side, 5 or more to an edge, [P,B,C,H,W]."""
        batch, channels, height, width = images.shape[1:]
        edge = min(height, width)
        side = max(edge // 5, 1)
        border = max((edge - 5 * side) // 2, 0)
        rows, columns = (torch.arange(n, device=images.device) - border for n in (height, width))
        # The first row and column of the tile that a pixel lies in, whose numbers it shares.
        top, left = (at.div(side, rounding_mode="floor") * side for at in (rows, columns))
        drawn = rng.uniform(batch, 1 + channels, height, width)
        drawn = drawn[..., top.clamp_min(0)[:, None], left.clamp_min(0)]
        pattern = self._pattern(
            side, images, (rows - top)[:, None], columns - left, drawn[:, :, :1] < 0.5
        )
        in_rows = (top >= 0) & (top + side <= height - border)
        in_columns = (left >= 0) & (left + side <= width - border)
        delta = pattern * _signs(drawn[:, :, 1:]) * (in_rows[:, None] & in_columns)
        return self._fit(delta, images)

    def _exchange(self, best: Tensor, drawn: Tensor, side: int, images: Tensor) -> Tensor:
        """`best` with the budget of two windows put into one, as uniforms [P,N,5+C] have it."""
        order = ORDERS[self.threat.norm]
        channels, height, width = best.shape[2:]
        first, second, turned, signs = drawn.split((2, 2, 1, channels), -1)
        into, out = (_window(corner, side, height, width) for corner in (first, second))
        rows, columns = (at.clamp(0, side - 1) for at in _offsets(first, side, height, width))
        pattern = self._pattern(
            side,
            best,
            rows[..., None, :, None],
            columns[..., None, None, :],
            turned[..., None, None] < 0.5,
        )

        def length(values: Tensor, *dims: int) -> Tensor:
            return torch.linalg.vector_norm(values, order, dims, keepdim=True)

        delta = best - images
        old = delta * into
        new = pattern * _signs(signs[..., None, None]) * into
        new = new + old / length(old, -2, -1).clamp_min(TINY)
        spare = self.threat.epsilon**order - length(delta, -3, -2, -1) ** order
        budget = spare.clamp_min(0) / channels + length(delta * (into | out), -2, -1) ** order
        # In l1 a channel is given more than there is; the projection takes it back.
        budget = budget.sqrt() if order == 2 else budget * channels
        new = new * (budget / length(new, -2, -1).clamp_min(TINY))
        return self._fit(torch.where(into, new, delta * ~out), images)

    def _pattern(
        self, side: int, like: Tensor, rows: Tensor, columns: Tensor, turned: Tensor
    ) -> Tensor:
        """The pattern of that side at its rows and columns, swapped where `turned`."""
        pattern = _pattern(side, ORDERS[self.threat.norm], like.device, like.dtype)
        return pattern[torch.where(turned, columns, rows), torch.where(turned, rows, columns)]

    def _fit(self, delta: Tensor, images: Tensor) -> Tensor:
        """Images moved by `delta`, in l2 stretched to epsilon first, as far as the threat goes."""
        if self.threat.norm == "l2":
            length = torch.linalg.vector_norm(delta, dim=(-3, -2, -1), keepdim=True)
            return (images + delta * (self.threat.epsilon / length.clamp_min(TINY))).clamp_(0, 1)
        return self.threat.project(images + delta, images)


@cache
def _pattern(side: int, order: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The pattern eta of the paper: a bright half above a dark one, of length 1, [side, side]."""
    upper, lower = _hill(side // 2, side, order), _hill(side - side // 2, side, order)
    pattern = torch.cat([upper, -lower])
    return (pattern / torch.linalg.vector_norm(pattern, order)).to(device, dtype)


def _hill(height: int, width: int, order: int) -> Tensor:
    """Values that fall off in squares around the middle, of length 1, float64 [height, width]."""
    rows, columns = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    rings = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64)
    # All squares that a pixel lies in add to it, the k-th from the middle k^-2; in l1 k^-4.
    heights = (rings ** (-4 / order)).flip(0).cumsum(0).flip(0)
    hill = heights[torch.maximum(rows[:, None], columns)]
    return hill / torch.linalg.vector_norm(hill, order)


def _signs(uniforms: Tensor) -> Tensor:
    """-1 or 1, as likely."""
    return torch.ones_like(uniforms).where(uniforms >= 0.5, -1)


def _uniforms(rng: PerNetworkRNG, *shape: int) -> Iterator[Tensor]:
    """Uniforms [P, *shape], again and again."""
    while True:
        yield from rng.uniform(BLOCK, *shape).unbind(1)


def _window(corner: Tensor, side: int, height: int, width: int) -> Tensor:
    """Where the squares are, bool [P,N,1,H,W], their corners given by uniforms [P,N,2]."""
    rows, columns = _offsets(corner, side, height, width)
    in_rows, in_columns = ((at >= 0) & (at < side) for at in (rows, columns))
    return (in_rows[..., :, None] & in_columns[..., None, :]).unsqueeze(2)


def _offsets(corner: Tensor, side: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns as counted from the squares' corners, [P,N,H] and [P,N,W]."""
    top, left = corner.unbind(-1)
    top, left = (top * (height - side + 1)).long(), (left * (width - side + 1)).long()
    rows = torch.arange(height, device=corner.device) - top[..., None]
    columns = torch.arange(width, device=corner.device) - left[..., None]
    return rows, columns
