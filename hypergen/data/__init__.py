"""Data sets: labelled images in the same parts for every run, shipped ones and anybody's own."""

from hypergen.data.dataset import Dataset, DatasetInfo, Split
from hypergen.data.loading import DATASETS, load, require_known, require_there, usual_epsilon
from hypergen.data.pixels import MAX_IMAGE_SIZE

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "MAX_IMAGE_SIZE",
    "Split",
    "load",
    "require_known",
    "require_there",
    "usual_epsilon",
]
