"""Knots of networks of one number, and the bound on their number."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from hypergen.analysis.one_dimensional import knot_bound, knots
from targets import TargetError


def network(widths: tuple[int, ...], seed: int) -> nn.Sequential:
    rng = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise((1, *widths, 1)):
        linear = nn.Linear(before, after)
        linear.weight.data = torch.randn(after, before, generator=rng)
        linear.bias.data = torch.randn(after, generator=rng)
        layers += linear, nn.ReLU()
    return nn.Sequential(*layers[:-1])


def test_of_one_layer_each_unit_has_its_own():
    module = network((7,), 0)
    layer = module[1]
    exact = (-layer.bias / layer.weight[:, 0]).detach().double().sort().values
    found = knots(module, -20, 20)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)
    assert len(found) == knot_bound([7]) == 7
    inside = exact[(exact > -0.5) & (exact < 0.5)]
    torch.testing.assert_close(knots(module, -0.5, 0.5), inside, rtol=1e-5, atol=1e-5)


def test_the_bound_is_the_sum_of_the_paper_and_holds():
    reached = 0.0
    for seed, widths in enumerate([(3,), (2, 2), (3, 4), (5, 5, 5), (4, 3, 2), (8, 8)] * 5):
        most = sum(m * math.prod(n + 1 for n in widths[i + 1 :]) for i, m in enumerate(widths))
        assert knot_bound(widths) == most == math.prod(m + 1 for m in widths) - 1
        found = len(knots(network(widths, seed), -1000, 1000))
        assert found <= most
        reached = max(reached, found / most)
    assert reached == 1


def test_a_saw_of_two_layers_by_hand():
    """|x| - 1 folded once more: | |x| - 1 | bends at -1, 0 and 1."""
    first, second, last = nn.Linear(1, 2), nn.Linear(2, 2), nn.Linear(2, 1)
    first.weight.data, first.bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    second.weight.data, second.bias.data = (
        torch.tensor([[1.0, 1], [-1, -1]]),
        torch.tensor([-1.0, 1]),
    )
    last.weight.data, last.bias.data = torch.ones(1, 2), torch.zeros(1)
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last)
    torch.testing.assert_close(knots(module, -3, 3), torch.tensor([-1.0, 0, 1]).double())


def test_smooth_networks_have_none():
    with pytest.raises(TargetError, match="Tanh in layer 2 is smooth"):
        knots(nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)), 0, 1)
