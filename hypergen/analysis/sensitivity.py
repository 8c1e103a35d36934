"""How far an image can move without changing its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from attacks.adaptive import randomised
from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.analysis.jacobian import in_double, jacobians
from hypergen.analysis.linear_piece import MARGIN, Array, LinearPiece
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import panels
from hypergen.report.names import tails
from hypergen.runtime.progress import Progress
from hypergen.runtime.rng import seeded
from targets import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = 8
"""Images that are moved, at most: each needs several linear programs."""
SHOWN = 2
"""Images of a group's first network in the picture."""
DRAWS = 2
"""Moves of each construction that draws."""
STEPS = 8
"""Equal steps in which a move is gone; each is tried on the network."""
CONSTRUCTIONS = {
    "null": "logits kept\n(null space)",
    "energy": "least energy",
    "lp": "far in the cone\n(linear program)",
    "inward": "from the apex\ninwards",
    "centre": "centre of\nthe cone",
    "mixed": "mixture of\nall these",
}
"""What the picture calls the constructions."""


@dataclass(frozen=True)
class Moves:
    """Moves of B images by one construction, M of each.

    moves: [B,M,C,H,W], as constructed; image + move is in [0,1].
    reach: [B,M], the share of each move that can be gone, in steps of 1/STEPS, before the network's
        class changes; image + reach * move was tried on the network.
    kept: bool [B,M], whether the whole move keeps the class, whatever is on its way.
    """

    moves: Tensor
    reach: Tensor
    kept: Tensor

    @property
    def reached(self) -> Tensor:
        """[B,M,C,H,W], the moves as far as the class is kept."""
        return self.reach[..., None, None, None] * self.moves


def linear_pieces(network: Population, images: Tensor) -> list[LinearPiece]:
    """One network (P = 1) near each of images [B,C,H,W], all in 64-bit numbers."""
    logits, gradients = jacobians(network, images[None])
    parts = images.flatten(1), logits[0], gradients[0].flatten(2)
    return [LinearPiece(*piece) for piece in zip(*(p.cpu().numpy() for p in parts), strict=True)]


def moved(
    network: Population, images: Tensor, pieces: Sequence[LinearPiece], rng: torch.Generator
) -> dict[str, Moves]:
    """How far images move under one network, by the names of CONSTRUCTIONS.

    "null": random moves in the null space of the Jacobian; "energy": to the image of least norm
    with the same margins; "lp": random moves to the end of the cone; "inward": the smallest moves
    to random margins below those of the image; "centre": of the cone; "mixed": convex combinations
    of what all these reach. All stay inside [0,1], and keep the class in the network's linear
    piece; how far they do so is tried.

    Args:
        network: one (P = 1), in 64-bit numbers.
        images: [B,C,H,W], in 64-bit numbers.
        pieces: `linear_pieces` of these.
    """
    constructed, weights = [], []
    for piece in pieces:
        constructed.append(_constructed(piece, rng))
        count = sum(map(len, constructed[-1].values()))
        drawn = -torch.rand(DRAWS, count, generator=rng, dtype=torch.float64).log()
        weights.append(drawn / drawn.sum(1, keepdim=True))
    stacked = torch.from_numpy(np.array([np.concatenate([*each.values()]) for each in constructed]))
    together = _gone(network, images, stacked.to(images).unflatten(2, images.shape[1:]))
    mixture = torch.stack(weights).to(images) @ together.reached.flatten(2)
    mixed = _gone(network, images, mixture.unflatten(2, images.shape[1:]))
    counts = [len(moves) for moves in constructed[0].values()]
    parts = (each.split(counts, dim=1) for each in (together.moves, together.reach, together.kept))
    found = map(Moves, *parts)
    return {**dict(zip(constructed[0], found, strict=True)), "mixed": mixed}


def _constructed(piece: LinearPiece, rng: torch.Generator) -> dict[str, list[Array]]:
    def normal() -> Array:
        return torch.randn(len(piece.image), generator=rng, dtype=torch.float64).numpy()

    def margins() -> Array:
        shares = torch.rand(len(piece.leads), generator=rng, dtype=torch.float64).numpy()
        return piece.leads * (MARGIN + (1 - MARGIN) * shares)

    return {
        "null": [piece.null_move(normal()) for _ in range(DRAWS)],
        "energy": [piece.least_energy_in_box()],
        "lp": [piece.farthest(normal()) for _ in range(DRAWS)],
        "inward": [piece.inward_in_box(margins()) for _ in range(DRAWS)],
        "centre": [piece.ball[0]],
    }


@torch.no_grad()
def _gone(network: Population, images: Tensor, moves: Tensor) -> Moves:
    """Tries moves [B,M,C,H,W] of images [B,C,H,W] step by step."""
    labels = network(images[None])[0].argmax(-1)
    keeps = []
    for step in range(1, STEPS + 1):
        points = (images[:, None] + step / STEPS * moves).clamp(0, 1)  # beyond by rounding alone
        found = network(points.flatten(0, 1)[None])[0].argmax(-1).view(moves.shape[:2])
        keeps.append(found == labels[:, None])
    steps = torch.stack(keeps).cumprod(0).sum(0)
    return Moves(moves, steps / STEPS, keeps[-1])


@ANALYSES.register("sensitivity")
class Sensitivity(Analysis):
    """How far images can move without changing class, in the network's linear piece and beyond."""

    title = "moves that keep the class"
    figures = {
        "null dimension": "of the null space of the Jacobian: directions that keep all logits",
        "null kept": "share of moves across [0,1] in that null space that keep the class",
        "null distance": "L2, how far these go before the class changes",
        "energy kept": "as null kept: moves to the image of least L2 norm with the same margins",
        "energy distance": "L2, as null distance",
        "lp kept": "as null kept: moves to the end of the cone in which the class stays first",
        "lp distance": "L2, as null distance",
        "inward kept": "as null kept: smallest moves to, or towards, smaller margins",
        "inward distance": "L2, as null distance",
        "mixed kept": "as null kept: convex combinations of moves that keep it",
        "radius": "L2, of the largest ball around the image in the cone",
        "largest radius": "L2, of the largest ball in the cone around any image in [0,1]",
        "formula inside": "share of moves by closed form (energy, inward) that stay in [0,1]",
    }
    cost = 20.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        images = context.images(IMAGES)[0].double()
        population = in_double(group.population)
        together = images.expand(len(population), *images.shape)
        with seeded(context.seed):
            random = randomised(context.threat, population, together, torch.empty(0), ())
        if random.any():
            raise NotApplicable("a randomised network has no class to keep, nor a linear piece")
        if not jacobians(population, together)[1].isfinite().all():
            raise NotApplicable("its gradients are not finite")
        progress.start(len(population))
        rows = []
        for _, network in population.chunks(1):
            rows.append(_row(network, images, context.rng()))
            progress.advance()
        return rows

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """Images, what they become while they keep their class, and the difference."""
        images = context.images(SHOWN)[0].double()
        columns = 1 + len(CONSTRUCTIONS)
        title = (
            "The first network of a group puts all images of a block into one class: each has moved"
            " from the one on the left\nas far as it stays in that class (numbers: L2 distance). "
            f"Below: the move, blue darker, red brighter\n{context.caption(groups)}"
        )
        shape = 2 * len(groups), columns * len(images)
        figure = panels(*shape, title, (1.05, 1.05))
        axes = figure.subplots(*shape, squeeze=False)
        called = tails([group.name for group in groups])
        for line, group in enumerate(groups):
            network = in_double(group.population[:1])
            found = moved(network, images, linear_pieces(network, images), context.rng())
            for block, image in enumerate(images):
                own = axes[2 * line : 2 * line + 2, columns * block : columns * (block + 1)]
                moves = {name: each.reached[block].cpu().numpy() for name, each in found.items()}
                _draw_block(own, image.cpu().numpy(), moves, headed=line == 0)
            axes[2 * line, 0].set_ylabel(called[group.name], fontsize="small")
        return figure


def _row(network: Population, images: Tensor, rng: torch.Generator) -> Row:
    """The figures of one network."""
    pieces = linear_pieces(network, images)
    found = moved(network, images, pieces, rng)
    row: Row = {
        "null dimension": fmean(piece.null_dimension for piece in pieces),
        "radius": fmean(piece.radius for piece in pieces),
        "largest radius": fmean(piece.ball[1] for piece in pieces),
        "formula inside": fmean(_formula_inside(piece) for piece in pieces),
    }
    for name, moves in found.items():
        lengths = moves.reached.flatten(2).norm(dim=2)
        row[f"{name} kept"] = float(moves.kept.double().mean())
        row[f"{name} distance"] = float(lengths.mean())
        row[f"{name} rms"] = float((lengths / sqrt(images[0].numel())).mean())
    return row


def _formula_inside(piece: LinearPiece) -> float:
    """The share of moves by the closed forms, one to half the margins, that end in [0,1]."""
    ends = np.stack([piece.least_energy(), piece.inward(piece.leads / 2)]) + piece.image
    return float(((ends >= 0) & (ends <= 1)).all(1).mean())


def _draw_block(axes: Any, image: Array, moves: Mapping[str, Array], headed: bool) -> None:
    """An image [C,H,W] and the farthest of each construction's moves [M,C,H,W], in [2,...] panels.

    Images stand above, moves below; headed: whether it is said what they are.
    """
    for panel in axes.flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_frame_on(False)
    _show(axes[0, 0], image)
    axes[0, 0].set_title("image" if headed else "", fontsize="x-small")
    for column, (name, words) in enumerate(CONSTRUCTIONS.items(), start=1):
        lengths = np.sqrt((moves[name] ** 2).sum((1, 2, 3)))
        farthest = moves[name][lengths.argmax()]
        _show(axes[0, column], image + farthest)
        axes[1, column].imshow(farthest.mean(0), cmap="RdBu_r", vmin=-1, vmax=1)
        axes[1, column].set_xlabel(f"{lengths.max():.2g}", fontsize="x-small")
        axes[0, column].set_title(words if headed else "", fontsize="x-small")


def _show(axes: "Axes", image: Array) -> None:
    """An image [C,H,W], grey unless it has the three colours."""
    if len(image) == 3:
        axes.imshow(image.transpose(1, 2, 0).clip(0, 1))
    else:
        axes.imshow(image.mean(0), cmap="gray", vmin=0, vmax=1)
