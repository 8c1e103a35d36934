"""Evolution strategies, where the answer is known."""

import torch
from torch import nn

from scripts.studies.evolution import PAIRS, evolve
from targets import Population


class Split:
    """Batches of nothing: the fitness below looks at weights alone."""

    def draw(self, count, rng):
        return torch.zeros(count, 1, 3, 3), torch.zeros(count, dtype=torch.long)


def test_it_climbs_what_is_only_measured_and_is_the_same_for_a_seed():
    torch.manual_seed(0)
    module, goal = (nn.Sequential(nn.Flatten(), nn.Linear(9, 3)) for _ in range(2))
    wanted = Population.of([goal]).theta
    asked = []

    def fitness(networks, images, labels):
        asked.append(len(networks))
        return 1 / (1 + (networks.theta - wanted).square().sum(1))

    before = float(fitness(Population.of([module]), None, None))
    first, again = (evolve(module, fitness, Split(), 6000, 1, seed=3) for _ in range(2))
    assert sum(asked) - 1 == 2 * 6000 and max(asked) == 2 * PAIRS
    assert torch.equal(first.theta, again.theta)
    assert float(fitness(first, None, None)) > 0.5 * (1 + before)
