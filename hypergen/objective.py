"""What the generator is trained on: -alpha * accuracy - beta * robustness, alpha + beta = 1.

- `value`: the estimates of the value network (see its `utility`); the gradient reaches the weights
  through it alone;
- `direct`: surrogate losses of the generated network itself, alpha CE(clean) + beta CE(attacked);
- `hybrid`: the sum of both.

In each of them batch norm is by the batch, as in ordinary training: taken as given, its statistics
would keep from the gradient how weights move them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hypergen.measure import Batch, Measure, half_precision, pieces
from hypergen.value_network import ValueNetwork
from targets import Population, concurrently, jobs_at_once


def losses(
    kind: str,
    population: Population,
    batch: Batch,
    weights: Tensor,
    value: ValueNetwork,
    measures: Sequence[Measure],
) -> Tensor:
    """[P], the loss of each network, batch norm as they have it; weights [P,M], one a measure."""
    total = torch.zeros(len(population), device=weights.device)
    if kind in ("value", "hybrid"):
        total = total - (weights * value.utility(value.evidence(population, batch))).sum(-1)
    if kind in ("direct", "hybrid"):
        with half_precision(weights.device):
            surrogates = [measure.surrogate(population, batch) for measure in measures]
        total = total + (weights * torch.stack(surrogates, dim=-1)).sum(-1)
    return total


def gradient(
    kind: str,
    population: Population,
    batch: Batch,
    weights: Tensor,
    value: ValueNetwork,
    measures: Sequence[Measure],
) -> tuple[Tensor, Tensor]:
    """Losses [P] and their gradient with respect to the weight vectors [P,D].

    weights: [P,M], one a measure; measures without one had better not be given: they cost as much.
    Networks do not influence each other, so each piece is differentiated on its own, several at a
    time, on a GPU as large as its memory allows; no gradient is left in the value network.
    """

    def run(job: tuple[slice, Population]) -> tuple[Tensor, Tensor]:
        place, piece = job
        theta = piece.theta.detach().requires_grad_()
        part = batch.for_networks(place)
        with torch.enable_grad():
            loss = losses(kind, piece.with_theta(theta), part, weights[place], value, measures)
            (grad,) = torch.autograd.grad(loss.sum(), theta)
        return loss.detach(), grad

    jobs = pieces(population.normalized_by_batch(), batch.images)
    results = list(concurrently(run, jobs, jobs_at_once(weights.device)))
    return torch.cat([loss for loss, _ in results]), torch.cat([grad for _, grad in results])
