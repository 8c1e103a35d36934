"""Accuracy: the share of clean images that a network classifies correctly."""

from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.base import Batch, LogitMeasure
from hypergen.runtime.batching import for_all
from targets import Population


@MEASURES.register("accuracy")
class Accuracy(LogitMeasure):
    """Share of clean images classified correctly."""

    name = "accuracy"

    def logits(self, population: Population, batch: Batch) -> Tensor:
        return population(for_all(batch.images, population))
