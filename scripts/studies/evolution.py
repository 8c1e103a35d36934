"""Evolution strategies (Salimans et al. 2017): a network for a measure, without any derivative."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hypergen.data import Split
from targets import Population

Fitness = Callable[[Population, Tensor, Tensor], Tensor]
"""Networks, images [B,C,H,W] and labels [B] to what is to rise, [P]."""
PAIRS = 10
"""Networks on either side of the present one, in opposite directions."""
SIGMA = 0.05
"""How far these are away, relative to the spread of each named tensor."""


@torch.no_grad()
def evolve(
    module: nn.Module,
    fitness: Fitness,
    split: Split,
    measurements: int,
    batch_size: int,
    seed: int,
    rate: float = 0.01,
) -> Population:
    """One network, evolved from `module` by so many measurements of networks on batches.

    Each step measures pairs around the present network on a batch, and moves it by Adam along the
    sum of their directions weighted by the ranks of what was measured.

    rate: of a step, relative to the spread of each named tensor.
    """
    start = Population.of([module])
    theta = start.theta[0]
    parts = [theta[slot.start : slot.stop] for slot in start.layout.slots]
    spread = torch.cat([part.std(correction=0).expand(len(part)) for part in parts])
    rng = torch.Generator().manual_seed(seed)
    moved = nn.Parameter(torch.zeros_like(theta))
    optimizer = torch.optim.Adam([moved], lr=rate)
    many = start.choose([0] * (2 * PAIRS))
    for _ in range(measurements // (2 * PAIRS)):
        images, labels = split.draw(batch_size, rng)
        noise = torch.randn(PAIRS, len(theta), generator=rng)
        steps = torch.cat([noise, -noise])
        networks = many.with_theta(theta + spread * (moved + SIGMA * steps))
        values = fitness(networks, images, labels)
        ranks = values.argsort().argsort() / (len(values) - 1) - 0.5
        moved.grad = -(ranks[:, None] * steps).sum(0) / (len(values) * SIGMA)
        optimizer.step()
    return start.with_theta((theta + spread * moved.detach())[None])
