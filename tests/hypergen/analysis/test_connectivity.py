"""What lies between two networks."""

import pytest
import torch
from torch import nn

from hypergen.analysis import Group, NotApplicable
from hypergen.analysis.connectivity import Connectivity
from hypergen.runtime.progress import SILENT
from targets import Population
from tests.hypergen.analysis.scene import context, networks, relu_net


def permuted(network: nn.Sequential) -> nn.Sequential:
    """The same function with its hidden units in another order."""
    other = relu_net()
    other.load_state_dict(network.state_dict())
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        other[1].weight.copy_(network[1].weight[order])
        other[1].bias.copy_(network[1].bias[order])
        other[3].weight.copy_(network[3].weight[:, order])
    return other


def test_matching_finds_the_same_network_again():
    (network,) = networks(relu_net, 1).population
    group = Group("sample", Population.of([network, permuted(network)]))
    (row,) = Connectivity().rows(group, context(), SILENT)
    assert row["distance"] > 0.5
    assert row["distance_matched"] == pytest.approx(0, abs=1e-6)
    assert row["barrier_matched"] == pytest.approx(0, abs=1e-6)
    assert row["line"][0] == row["line"][-1] == row["line_matched"][-1]


def test_a_group_of_several_goes_round():
    rows = Connectivity().rows(networks(relu_net, 3), context(), SILENT)
    assert [row["other"] for row in rows] == [1, 2, 0]


def test_there_is_nothing_beside_one_network():
    with pytest.raises(NotApplicable):
        Connectivity().rows(networks(relu_net, 1), context(), SILENT)


def test_what_is_no_chain_is_not_matched():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(36, 3), nn.Linear(36, 3)

        def forward(self, images):
            return self.one(images.flatten(1)) + self.other(images.flatten(1))

    group = networks(Sum)
    found = Connectivity().run([group], context(), SILENT)
    (row,) = found.rows
    assert row["distance_matched"] is None and row["barrier"] >= 0
    assert found.figure is not None
