"""What measures of corrupted images share.

Defaults are the hardest of five severities in CIFAR-10-C (Hendrycks, Dietterich 2019,
"Benchmarking neural network robustness to common corruptions and perturbations").
"""

from abc import abstractmethod

import torch
from torch import Tensor

from hypergen.measures.base import ImageMeasure, Stage
from hypergen.runtime.batching import for_all
from hypergen.runtime.precision import full_precision
from targets import Population


class CorruptionMeasure(ImageMeasure):
    """The share of corrupted images classified correctly, the same images for every network."""

    @abstractmethod
    def corrupt(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """The images [B,C,H,W], in [0,1], as networks get to see them; they are clipped to [0,1].

        rng: on the CPU, decides everything random.
        """

    @full_precision()
    @torch.no_grad()
    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        rng = torch.Generator().manual_seed(stage.seed)
        return for_all(self.corrupt(images, rng).clamp(0, 1), population)
