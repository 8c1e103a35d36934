"""Generated networks as the objective trains them, with batch norm by the batch.

On a GPU what attacks and differentiates them is captured as CUDA graphs.
"""

from collections.abc import Sequence
from functools import partial
from itertools import compress

import torch
from torch import Tensor, nn

from hypergen.measures import Batch, Measure
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.cuda_graphs import CUDAGraphFunction, CUDAGraphModel, CUDAGraphPopulation
from hypergen.runtime.precision import Precision, multiplying_in
from hypergen.training import objective
from targets import Population


class Learner:
    """Makes networks of weight vectors, and the objective's gradient at these.

    Args:
        kind: of the objective.
        measures: what it is of.
        target: whose weights are generated, on the device that is trained on.
        value: the value network, there too.
        precision: what the networks' own losses, and attacks on them, are computed in.
    """

    def __init__(
        self,
        kind: str,
        measures: Sequence[Measure],
        target: nn.Module,
        value: ValueNetwork,
        precision: Precision = "float32",
    ):
        self.kind, self.measures, self.value = kind, measures, value
        self.precision: Precision = precision
        self.network = Population.of([target])  # made once: a GPU steps in less time
        self.by_batch: Population | None = None  # made of the first weights
        self.model = CUDAGraphModel(self._logits)
        self.captured: (
            tuple[tuple[tuple[Measure, ...], tuple[str, ...]], CUDAGraphFunction] | None
        ) = None

    def networks(self, theta: Tensor) -> Population:
        """Weight vectors [P,D] as networks, with the batch-norm statistics of the fresh target."""
        same = torch.zeros(len(theta), dtype=torch.long, device=theta.device)
        return self.network.choose(same).with_theta(theta)

    def population(self, theta: Tensor) -> Population:
        """Weight vectors [P,D] as networks with batch norm by the batch."""
        if self.by_batch is None:
            self.by_batch = self.networks(theta).normalized_by_batch()
        return self.by_batch.with_theta(theta)

    def to_attack(self, theta: Tensor) -> Population:
        """The same, faster to attack; in few bits where that is faster still."""
        return CUDAGraphPopulation(self.population(theta), self.model)

    def gradient(self, theta: Tensor, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of each network [P] and its gradient at weight vectors [P,D].

        weights: [P,M] on the CPU, one a measure; a measure that has none is not computed where the
            networks' own losses are descended.
        """
        if self.kind != "direct":
            networks, weights = self.population(theta), weights.to(theta.device)
            return objective.gradient(
                *(self.kind, networks, batch, weights, self.value, self.measures), self.precision
            )
        wanted = weights.any(0)  # with a beta of 1 nothing of clean images
        measures = tuple(compress(self.measures, wanted.tolist()))
        function = self._gradient_of(measures, tuple(batch.prepared))
        weights = weights[:, wanted].to(theta.device)
        prepared = batch.prepared.values()
        losses, gradient = function(theta, weights, batch.labels, batch.images, *prepared)
        return losses, gradient

    def _gradient_of(
        self, measures: tuple[Measure, ...], names: tuple[str, ...]
    ) -> CUDAGraphFunction:
        if self.captured is None or self.captured[0] != (measures, names):
            function = CUDAGraphFunction(partial(self._gradient, measures, names))
            self.captured = (measures, names), function
        return self.captured[1]

    def _gradient(
        self,
        measures: tuple[Measure, ...],
        names: tuple[str, ...],
        theta: Tensor,
        weights: Tensor,
        labels: Tensor,
        images: Tensor,
        *prepared: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch = Batch(images, labels, dict(zip(names, prepared, strict=True)))
        population = self.population(theta)
        return objective.gradient(
            *("direct", population, batch, weights, self.value, measures), self.precision
        )

    def _logits(self, images: Tensor, theta: Tensor) -> Tensor:
        with multiplying_in(self.precision, images.device):
            return self.population(theta)(images)
