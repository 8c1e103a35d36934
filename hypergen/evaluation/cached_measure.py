"""Keeps which images a measure counted, so that a killed evaluation does not measure again."""

from typing import TypeGuard

import torch
from torch import Tensor

from hypergen.measures import Batch, LogitMeasure, Measure, Stage
from hypergen.storage.results_cache import ResultsView
from targets import Ensemble, Population


def is_share(measure: Measure) -> TypeGuard[LogitMeasure]:
    """Whether the figure is the share of images that the measure counts, and nothing else."""
    return isinstance(measure, LogitMeasure) and type(measure).__call__ is LogitMeasure.__call__


class CachedMeasure(Measure):
    """A measure that is a share of images, with those that it counted kept in a results cache.

    What is counted may depend on the networks that are measured together (as for `transfer`), so
    it is kept for a population as a whole.

    Args:
        measure: for which `is_share` holds.
        view: of all images that are measured; what else decides the figure is told there.
    """

    def __init__(self, measure: LogitMeasure, view: ResultsView):
        self.name, self._measure, self._view = measure.name, measure, view

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor | None:
        """What the measure needs; None where all is kept."""
        if self._kept(population, images) is not None:
            return None
        return self._measure.prepare(population, images, labels, stage)

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        counted = self._kept(population, batch.images)
        if counted is None:
            counted = self._measure.correct(population, batch)
            masks = {str(index): mask[None] for index, mask in enumerate(counted)}
            self._view.put(Ensemble(population), _whole(batch.images), masks)
        return counted.double().mean(1)

    def _kept(self, population: Population, images: Tensor) -> Tensor | None:
        """bool [P,N], the images that were counted; None for what is yet to be measured."""
        masks = self._view.get(Ensemble(population), _whole(images))
        return None if masks is None else torch.cat(list(masks.values()))


def _whole(images: Tensor) -> slice:
    return slice(0, len(images))
