"""Certified robustness: the share of images that no attack at all can break (Gowal et al. 2018)."""

from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.errors import InputError
from hypergen.measures.base import Batch, LogitMeasure, Stage
from hypergen.measures.options import other_threat
from targets import Population, TargetError
from targets.bounds import METHODS, margin_bounds
from targets.graph import Graph


@MEASURES.register("certified")
class Certified(LogitMeasure):
    """Share of images right however each pixel moves, as interval bounds prove (linf).

    A lower bound of the robust accuracy under every attack, up to the rounding of floats. What is
    descended is the cross-entropy of the worst logits (the IBP loss).

    Args:
        threat: of the run, whose radius it is for unless an epsilon is given.
        epsilon: radius in linf, for pixels in [0,1].
        method: "ibp", which costs about three evaluations, or "crown-ibp" (Zhang et al. 2020),
            which certifies more and costs several for each class.
    """

    name = "certified"

    def __init__(self, threat: attacks.Threat, epsilon: float | None = None, method: str = "ibp"):
        if epsilon is None and threat.norm != "linf":
            raise InputError(
                f"only linf can be certified, not {threat.norm}: it needs an `epsilon` of its own"
            )
        if method not in METHODS:
            raise InputError(f"`method` must be {' or '.join(METHODS)}, got {method}")
        self.threat, self.method = other_threat(threat, "linf", epsilon), method

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        """[P], the radius of now."""
        try:
            Graph.of(population)  # here, while no other thread works
        except TargetError as error:
            raise InputError(f"certified: {error}") from error
        radius = stage.threat(self.threat).epsilon
        return images.new_full((len(population),), radius)

    def logits(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,K], the most by which each class can exceed the true one, whose own is 0."""
        radius = batch.prepared[self.name]
        try:
            return margin_bounds(population, batch.images, batch.labels, radius, self.method)
        except TargetError as error:
            raise InputError(f"certified: {error}") from error
