"""Networks on the straight line between two others in weight space: soups, and what they lose.

One network in place of two, which costs no training ("model soups", Wortsman et al. 2022; of
networks that are robust in different norms, Croce et al. 2023).
"""

from collections.abc import Sequence

from torch import Tensor

from hypergen.runtime.batching import recalibrated
from targets import Population, TargetError


def soup(one: Population, other: Population, share: float | Tensor, images: Tensor) -> Population:
    """The P networks whose weights are (1 - share) * `one` + share * `other`, pair by pair.

    Share 0 gives the weights of `one` and share 1 those of `other`, bit for bit.

    share: one for all, or of each pair [P].
    images: [N,C,H,W], training images that batch-norm statistics are measured on, for those of
    the two ends are not those between them. `TargetError`: populations of two architectures or
    sizes.
    """
    if one.architecture != other.architecture or len(one) != len(other):
        raise TargetError("a soup needs two populations of one architecture and equal size")
    shares = share[:, None] if isinstance(share, Tensor) else share
    return recalibrated(one.with_theta(one.theta.lerp(other.theta, shares)), images)


def barrier(shares: Sequence[float], figures: Sequence[float]) -> float:
    """How far figures of soups fall below the straight line between their ends, at most; >= 0.

    shares: of the soups, with 0 and 1 among them; figures: of each, the higher the better.
    Networks whose accuracy has no barrier (below 0.02 in practice) lie in one basin: they are
    "linearly mode connected" (Frankle et al. 2020; the line as in Entezari et al. 2022).
    """
    of = dict(zip(shares, figures, strict=True))
    return max((1 - share) * of[0] + share * of[1] - figure for share, figure in of.items())
