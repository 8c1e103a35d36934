"""Spectral norms of linear maps: by how much a map can lengthen a vector, in L2.

By Lanczos' method on A^T A, from nothing but products with A and its transpose: it takes the best
of all combinations of the vectors that a power iteration runs through, so it needs a tenth of the
products where singular values lie close together, as those of convolutions do.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CYCLE = 12
"""Products between two looks at how much the estimate still grows."""
MAX_CYCLES = 200
TOLERANCE = 1e-6
"""Relative growth of a norm over a cycle below which it counts as found."""


def spectral_norms(
    linear: Callable[[Tensor], Tensor], start: Tensor, tolerance: float = TOLERANCE
) -> Tensor:
    """[P], the spectral norms of P linear maps, differentiable in what they are made of.

    Never above the norm but for rounding, and for the usual tolerance within about 1e-4 of it.

    Args:
        linear: P inputs [P,...] -> [P,...], each by a map of its own, without a shift.
        start: [P,...], random inputs to begin with.
    """
    return _lengths(linear(_most_stretched(linear, start, tolerance)))


@torch.no_grad()
def _most_stretched(linear: Callable[[Tensor], Tensor], start: Tensor, tolerance: float) -> Tensor:
    """[P,...], unit vectors that the maps lengthen most."""

    with torch.enable_grad():
        point = start.detach().requires_grad_()
        answer = linear(point)

    def gram(flat: Tensor) -> Tensor:
        stretched = linear(flat.view_as(start))
        (back,) = torch.autograd.grad(answer, point, stretched, retain_graph=True)
        return back.flatten(1)

    vectors = _unit(start.flatten(1))
    norms = torch.zeros_like(vectors[:, :1])
    for _ in range(MAX_CYCLES):
        better, found = _cycle(gram, vectors)
        grown = found > norms * (1 + tolerance)  # never for what is no number
        vectors = torch.where(grown, better, vectors)  # each map ends by itself
        norms = torch.where(grown, found, norms)
        if not grown.any():
            break
    return vectors.view_as(start)


def _cycle(gram: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [P,N] -> better ones, and the norms [P,1] that they show."""
    basis, images = [start], list[Tensor]()
    for _ in range(CYCLE):
        image = gram(basis[-1])
        images.append(image)
        known, rest = torch.stack(basis, 1), image
        for _ in range(2):  # once leaves what rounding adds
            rest = rest - _combined(known, torch.einsum("pkn,pn->pk", known, rest))
        tiny = torch.finfo(image.dtype).eps * _lengths(image)[:, None]
        new = _lengths(rest)[:, None] > 10 * tiny  # else nothing but rounding is left
        basis.append(torch.where(new, _unit(rest), 0.0))
    known = torch.stack(basis[:-1], 1)
    small = torch.einsum("pin,pjn->pij", known, torch.stack(images, 1))
    values, mixes = torch.linalg.eigh(small.nan_to_num())
    return _unit(_combined(known, mixes[..., -1])), values[:, -1:].clamp_min(0).sqrt()


def _combined(vectors: Tensor, factors: Tensor) -> Tensor:
    """[P,K,N] and [P,K] -> [P,N]."""
    return torch.einsum("pkn,pk->pn", vectors, factors)


def _lengths(values: Tensor) -> Tensor:
    """[P,...] -> [P]."""
    return values.flatten(1).norm(dim=1)


def _unit(vectors: Tensor) -> Tensor:
    """[P,N] at length 1, zeros as they are."""
    tiny = torch.finfo(vectors.dtype).tiny
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(tiny)
