"""Accuracy of the worst class: what the mean over all classes hides.

Sagawa et al. 2020, "Distributionally robust neural networks for group shifts".
"""

import torch
from torch import Tensor

from hypergen.catalog import MEASURES
from hypergen.measures.attacked import predictions
from targets import Population


@MEASURES.register("worst-class")
def worst_class(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of the worst class, of those that there are images of."""
    right = (predictions(population, images) == labels).double()
    return torch.stack([right[:, labels == each].mean(1) for each in labels.unique()]).amin(0)
