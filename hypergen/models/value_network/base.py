"""What a value network is: features of a population, and estimates of its measures from these."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.errors import RunError
from hypergen.measures.base import Batch
from targets import Population


class ValueNetwork(nn.Module, ABC):
    """Maps features [P,...] to estimates [P,M] in [0,1], one a measure."""

    @abstractmethod
    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,...], what V looks at; gradients reach `population.theta`."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M] in [0,1]."""

    def generator_objective(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], what the generator ascends: the estimates, or what rises with them."""
        return self(features)

    def loss(self, features: Tensor, measured: Tensor) -> Tensor:
        """The regression loss on features [P,...] against measured [P,M] in [0,1], a scalar.

        Binary cross-entropy: steep where an estimate near 0 or 1 is wrong. `RunError` for NaN.
        """
        return F.binary_cross_entropy(self.finite_estimates(features), measured)

    def finite_estimates(self, features: Tensor) -> Tensor:
        """The estimates [P,M]; `RunError` when they are none, for V has diverged."""
        estimates = self(features)
        if not estimates.isfinite().all():
            raise RunError("training diverged: the value network's estimates are NaN")
        return estimates

    def uncertainty(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], how far off the estimates may be; 0 where nobody can tell."""
        return torch.zeros_like(self(features))
