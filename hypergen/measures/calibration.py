"""How well a network knows what it does not know.

Guo et al. 2017, "On calibration of modern neural networks".
"""

from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.runtime.batching import for_all, map_chunks
from targets import Population

BINS = 15
"""Of equal width, into which images are put by how sure the network is of its answer."""


@MEASURES.register("calibration")
def calibration(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """1 - expected calibration error: 1 for a network that is as sure as it is right.

    The error is the mean over 15 bins of |accuracy - confidence|, weighted by their images.
    """

    def soft_max(chunk: Population, image_slice: slice) -> Tensor:
        return chunk(for_all(images[image_slice], chunk)).softmax(-1)

    confidence, classes = map_chunks(soft_max, population, images).max(-1)
    bins = (BINS * confidence).ceil().long().clamp(1, BINS) - 1
    surplus = (classes == labels).to(confidence.dtype) - confidence
    in_bins = surplus.new_zeros(len(population), BINS).scatter_add(1, bins, surplus)
    return 1 - in_bins.abs().sum(1) / len(images)
