"""Data sets: labelled images in the same parts for every run, shipped ones and anybody's own."""

from hypergen.data.dataset import Dataset, DatasetInfo, Split
from hypergen.data.loading import DATASETS, load, require_known, usual_epsilon

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "Split",
    "load",
    "require_known",
    "usual_epsilon",
]
