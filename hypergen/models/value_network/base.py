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

        Measured is NaN where nothing was measured, which adds nothing to the loss. Binary
        cross-entropy: steep where an estimate near 0 or 1 is wrong. `RunError` when V has diverged.
        """
        return F.binary_cross_entropy(*self.known_pairs(features, measured))

    def known_pairs(self, features: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """The estimates of what was measured, and the measured figures, of one shape.

        `RunError` when estimates are NaN, for V has diverged.
        """
        estimates, known = self(features), ~measured.isnan()
        measured = measured.to(estimates.dtype)
        if not estimates.isfinite().all():
            raise RunError("training diverged: the value network's estimates are NaN")
        if known.all():  # as mostly; indexing would take half as long again as the loss
            return estimates, measured
        return estimates[known], measured[known]

    def uncertainty(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], how far off the estimates may be; 0 where nobody can tell."""
        return torch.zeros_like(self(features))
