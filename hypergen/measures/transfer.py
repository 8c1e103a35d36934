"""Robustness to examples that were made for other networks (Papernot et al. 2016, "Transferability
in machine learning"): whether samples of one generator share their weaknesses.
"""

import torch
from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.measures.base import ImageMeasure, Stage
from hypergen.measures.robustness import Robustness
from targets import Population


@MEASURES.register("transfer")
class Transfer(ImageMeasure):
    """Robustness to examples made for the other networks; options norm, epsilon (the run's).

    The mean over the others: each image comes from one of them, in turn. So a figure depends on
    which networks are measured together. A network alone has no others: examples made for itself
    stand in for theirs, which are harder, so that its figure is a lower bound.

    Args: those of `Robustness`.
    """

    name = "transfer"

    def __init__(
        self, threat: attacks.Threat, norm: str | None = None, epsilon: float | None = None
    ):
        self.robustness = Robustness(threat, norm, epsilon)

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        count = len(population)
        made = self.robustness.prepare(population, images, labels, stage)
        if count == 1:
            return made
        network = torch.arange(count, device=images.device)[:, None]
        image = torch.arange(len(images), device=images.device)
        return made[(network + 1 + image % (count - 1)) % count, image]
