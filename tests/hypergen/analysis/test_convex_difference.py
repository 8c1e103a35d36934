"""A network as a difference of two convex functions."""

import pytest
import torch
from torch import nn

from hypergen.analysis.convex_difference import convex_parts
from hypergen.errors import InputError


def test_both_are_convex_and_their_difference_is_the_network():
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 6), nn.ReLU()]
        module = nn.Sequential(nn.Flatten(), *layers, nn.Linear(6, 3)).double()
    bent = torch.zeros(2)
    for _ in range(20):
        start, end = 6 * torch.rand(2, 1, 2, 2, generator=rng, dtype=torch.float64) - 3
        places = torch.linspace(0, 1, 201, dtype=torch.float64).view(-1, 1, 1, 1)
        points = start + places * (end - start)
        parts = convex_parts(module, points)
        torch.testing.assert_close(parts[0] - parts[1], module(points), rtol=0, atol=1e-12)
        for index, part in enumerate(parts):
            second = part.diff(n=2, dim=0)
            assert (second > -1e-12).all()
            bent[index] += (second > 1e-9).sum()
    assert (bent > 0).all()


def test_other_layers_are_refused():
    with pytest.raises(InputError, match="got a Tanh"):
        convex_parts(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.zeros(1, 2))
