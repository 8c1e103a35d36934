"""Robustness to Square, an attack that sees answers and no gradient (Andriushchenko et al. 2020).

Nothing here has a derivative: gradients that are hidden do not help a network.
"""

import copy
from typing import Self

import torch
from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.measures.attacked import attacked_images, predictions
from hypergen.measures.base import ImageMeasure, Stage
from hypergen.measures.options import other_threat, whole
from hypergen.runtime.batching import for_all
from targets import Population

STRICT_QUERIES = 1000


@MEASURES.register("square")
class Square(ImageMeasure):
    """Robustness to a black-box attack, Square; options norm, epsilon (the run's), queries (100).

    Args:
        threat: of the run, which the figure is of unless a norm or an epsilon is given.
        norm: "linf", "l2" or "l1"; one that is not the run's needs an epsilon.
        epsilon: radius, for pixels in [0,1].
        queries: of the attack, an image, in training; figures are judged by 1,000 at least.
    """

    name = "square"

    def __init__(
        self,
        threat: attacks.Threat,
        norm: str | None = None,
        epsilon: float | None = None,
        queries: int = 100,
    ):
        self.threat = other_threat(threat, norm, epsilon)
        self.queries = whole("queries", queries, 1)

    def strict(self) -> Self:
        return self._with(max(self.queries, STRICT_QUERIES))

    def raised(self) -> Self:
        return self._with(2 * self.queries)

    def _with(self, queries: int) -> Self:
        other = copy.copy(self)
        other.queries = queries
        return other

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        attack = attacks.Square(stage.threat(self.threat), queries=self.queries)
        found = attacked_images(population, images, labels, attack, stage.seed, stage.precision)
        # An image that is wrong as it is has been lost already, whatever the attack makes of it.
        wrong = predictions(population, images) != labels
        return torch.where(wrong[..., None, None, None], for_all(images, population), found)
