"""Accuracy: the share of clean images that a network classifies correctly."""

from torch import Tensor

from hypergen.measures.base import Batch, Measure, mean_cross_entropy, share_correct
from hypergen.runtime.batching import for_all
from targets import Population


class Accuracy(Measure):
    """Share of clean images classified correctly; surrogate: their cross-entropy."""

    name = "accuracy"

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return share_correct(population, for_all(batch.images, population), batch.labels)

    def surrogate_loss(self, population: Population, batch: Batch) -> Tensor:
        return mean_cross_entropy(population(for_all(batch.images, population)), batch.labels)
