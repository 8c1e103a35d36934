import copy
from itertools import combinations

import pytest
import torch
from torch import nn

import targets
from hypergen.evaluation.diversity import (
    disagreement,
    error_overlap,
    pairwise_differences,
    weight_distance,
)
from hypergen.storage.weights import load_network
from targets import Population, TargetError


@pytest.fixture
def mixture(networks, base) -> Population:
    """A trained network among fresh ones."""
    return Population.of([networks[0], load_network(base), networks[1]])


@pytest.fixture
def twins(mixture) -> Population:
    return mixture.choose(torch.tensor([1, 1]))


def classes(population, images):
    alone = [population[i](images).argmax(1) for i in range(len(population))]
    return torch.stack(alone)


def test_disagreement_is_the_mean_over_pairs(mixture, twins, digits):
    images, _ = digits.test.first(200)
    pairs = [float((a != b).float().mean()) for a, b in combinations(classes(mixture, images), 2)]
    assert disagreement(classes(mixture, images)) == pytest.approx(sum(pairs) / 3, abs=1e-6)
    assert disagreement(classes(twins, images)) == 0
    assert disagreement(classes(mixture[:1], images)) == 0


def test_error_overlap_is_the_share_of_common_errors(mixture, twins, digits):
    images, labels = digits.test.first(200)
    wrong = [set((c != labels).nonzero().flatten().tolist()) for c in classes(mixture, images)]
    pairs = [len(a & b) / len(a | b) for a, b in combinations(wrong, 2)]
    assert error_overlap(classes(mixture, images), labels) == pytest.approx(sum(pairs) / 3)
    assert 0 < sum(pairs) < 3
    same = classes(twins, images)
    assert error_overlap(same, labels) == 1
    assert error_overlap(same, same[0]) == 1  # flawless


def test_differences_of_a_population_are_those_of_its_networks(mixture, digits):
    images, labels = digits.test.first(200)
    alone = classes(mixture, images)
    assert pairwise_differences(mixture, images, labels) == {
        "disagreement": disagreement(alone),
        "error_overlap": error_overlap(alone, labels),
    }


def rearranged(network: nn.Module, rng: torch.Generator) -> nn.Module:
    """The same function, its hidden units in another order; small-lenet5 alone."""
    twin = copy.deepcopy(network)
    first, second = twin.features[0], twin.features[3]
    third, last = twin.classifier[1], twin.classifier[4]
    with torch.no_grad():
        for layer, following in ((first, second), (second, third), (third, last)):
            order = torch.randperm(len(layer.bias), generator=rng)
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            inputs = following.weight.view(len(following.bias), len(order), -1)
            following.weight.copy_(inputs[:, order].reshape(following.weight.shape))
    return twin


def test_the_order_of_hidden_units_is_no_difference(large_digits):
    torch.manual_seed(0)
    network = targets.build("small-lenet5", "relu", 10, (1, 28, 28)).eval()
    twin = rearranged(network, torch.Generator().manual_seed(1))
    images, _ = large_digits.test.first(20)
    torch.testing.assert_close(twin(images), network(images))
    before, after = weight_distance(Population.of([network, twin]))
    assert before > 1 and after < 1e-6
    # Beside noise too, which no order takes away.
    noise = 0.1 * torch.randn(20_522)
    population = Population.of([network, twin])
    population = population.with_theta(
        population.theta + population.layout.scales() * torch.stack([noise, 0 * noise])
    )
    left = weight_distance(population)[1]
    alone = population.with_theta(
        torch.stack([population.theta[0], population.theta[0] - population.layout.scales() * noise])
    )
    assert left == pytest.approx(weight_distance(alone)[0], rel=1e-3) and left > 0.05


def test_independent_networks_stay_apart(digits):
    torch.manual_seed(0)
    fresh = [targets.build("mlp", "relu", 10, (1, 28, 28)) for _ in range(3)]
    before, after = weight_distance(Population.of(fresh))
    assert before == pytest.approx(2**0.5, rel=0.02)  # independent random vectors
    assert 0.9 < after < before
    torch.testing.assert_close(weight_distance(Population.of(fresh[::-1]))[0], before)


def test_only_chains_can_be_matched():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(4, 3)

        def forward(self, images):
            return self.first(images.flatten(1))[:, :3] + self.second(images.flatten(1))

    with pytest.raises(TargetError, match=r"second.weight.* does not follow"):
        weight_distance(Population.of([Skip(), Skip()]))
    normed = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with pytest.raises(TargetError, match="belongs to no layer"):
        weight_distance(Population.of([normed, normed]))
