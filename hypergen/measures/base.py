"""What a measure is: a figure in [0,1] for every network of a population.

A measure has a name and a differentiable surrogate loss for the `direct` objective. The value
network has one output a measure, and the objective one weight.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.losses import cross_entropy
from hypergen.runtime.batching import chunks
from hypergen.runtime.precision import full_precision
from targets import Population, max_workers, parallel_map


@dataclass(frozen=True)
class Batch:
    """Images for every network of a population, clean and attacked; labels [B].

    images: [B,C,H,W]; attacked: [P,B,C,H,W], made against each network.
    """

    images: Tensor
    labels: Tensor
    attacked: Tensor

    def for_networks(self, network_slice: slice) -> "Batch":
        """The same batch for some of the networks."""
        return Batch(self.images, self.labels, self.attacked[network_slice])


class Measure(ABC):
    """A figure of merit in [0,1]."""

    name: str

    @abstractmethod
    def __call__(self, population: Population, batch: Batch) -> Tensor:
        """[P], measured on the images of the batch."""

    @abstractmethod
    def surrogate_loss(self, population: Population, batch: Batch) -> Tensor:
        """[P], a loss that falls as the measure rises, differentiable in the weights."""


@full_precision()
@torch.no_grad()
def share_correct(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """[P], the share of images [P,B,C,H,W] classified as the labels [B]."""

    def correct(job: tuple[slice, Population]) -> Tensor:
        network_slice, chunk = job
        return chunk(images[network_slice]).argmax(-1) == labels

    masks = parallel_map(correct, chunks(population, images[0]), max_workers(images.device))
    return torch.cat(list(masks)).float().mean(1)


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """[P], the mean over images of the cross-entropy of logits [P,B,K] against labels [B]."""
    return cross_entropy(logits, labels.expand(len(logits), -1)).mean(1)
