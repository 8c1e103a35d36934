"""What the generator is trained on: minus the sum of weight * measure, such as
-(1 - beta) * accuracy - beta * robustness.

- `value`: the estimates of the value network (see its `generator_objective`); the gradient reaches
  the weights through it alone;
- `direct`: surrogate losses of the generated network itself, such as (1 - beta) CE(clean) + beta
  CE(attacked); black boxes have none;
- `hybrid`: the sum of both, black boxes through the value network alone.

In each of them batch norm is by the batch, as in ordinary training: taken as given, its statistics
would keep from the gradient how weights move them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hypergen.measures import Batch, LogitMeasure, Measure
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.batching import map_networks
from hypergen.runtime.precision import Precision, multiplying_in
from targets import Population


def losses(
    kind: str,
    population: Population,
    batch: Batch,
    weights: Tensor,
    value: ValueNetwork,
    measures: Sequence[Measure],
    precision: Precision = "float32",
) -> Tensor:
    """[P], the loss of each network, batch norm as they have it; weights [P,M], one a measure.

    precision: what the networks' own losses are computed in.
    """
    total = torch.zeros(len(population), device=weights.device)
    if kind in ("value", "hybrid"):
        features = value.features(population, batch)
        total = total - (weights * value.generator_objective(features)).sum(-1)
    if kind in ("direct", "hybrid"):
        known = [isinstance(measure, LogitMeasure) for measure in measures]
        with multiplying_in(precision, weights.device):
            surrogates = [
                measure.surrogate_loss(population, batch)
                for measure in measures
                if isinstance(measure, LogitMeasure)
            ]
        total = total + (weights[:, known] * torch.stack(surrogates, dim=-1)).sum(-1)
    return total


def gradient(
    kind: str,
    population: Population,
    batch: Batch,
    weights: Tensor,
    value: ValueNetwork,
    measures: Sequence[Measure],
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor]:
    """Losses [P] and their gradient with respect to the weight vectors [P,D].

    weights: [P,M], one a measure; measures without one had better not be given: they cost as much.
    Networks do not influence each other, so each chunk is differentiated on its own, several at a
    time, as large as the memory allows; no gradient is left in the value network.
    """

    def run(network_slice: slice, chunk: Population) -> tuple[Tensor, Tensor]:
        theta = chunk.theta.detach().requires_grad_()
        own = batch.for_networks(network_slice)
        with torch.enable_grad():
            networks = chunk.with_theta(theta)
            own_weights = weights[network_slice]
            loss = losses(kind, networks, own, own_weights, value, measures, precision)
            (grad,) = torch.autograd.grad(loss.sum(), theta)
        return loss.detach(), grad

    passes = max(1, len(measures)) * (2 if kind == "hybrid" else 1)
    results = map_networks(run, population.normalized_by_batch(), batch.images, passes)
    return torch.cat([loss for loss, _ in results]), torch.cat([grad for _, grad in results])
