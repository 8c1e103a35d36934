import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from targets import Population, TargetError
from targets.rounding import layer_weights, quantized


def test_by_hand():
    weight = torch.tensor([[127.0, -3.4, 0.6], [0.0, 0.0, 0.0], [-1.27, 0.012, 0.5]])
    integers, scale = quantized(weight, 8, 1)
    assert integers.tolist() == [[127, -3, 1], [0, 0, 0], [-127, 1, 50]]
    torch.testing.assert_close(scale[[0, 2]], torch.tensor([[1.0], [0.01]]))
    integers, scale = quantized(torch.tensor([[4.0, -1.0, 2.1]]), 2, 1)
    assert integers.tolist() == [[1, 0, 1]] and scale.tolist() == [[4]]


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_each_weight_is_within_half_a_scale_of_what_it_was(bits, dims):
    weight = torch.randn(3, 4, 5, 2, dtype=torch.float64)
    integers, scale = quantized(weight, bits, dims)
    assert scale.shape == (*weight.shape[:dims], *[1] * (4 - dims))
    assert integers.equal(integers.round())
    assert (integers.flatten(dims).abs().amax(dims) == 2 ** (bits - 1) - 1).all()
    assert ((integers * scale - weight).abs() <= scale / 2 * (1 + 1e-9)).all()


def test_what_was_rounded_stays():
    integers, scale = quantized(torch.randn(4, 9, dtype=torch.float64), 5, 1)
    again, same = quantized(integers * scale, 5, 1)
    assert again.equal(integers)
    torch.testing.assert_close(same, scale)


def test_layers_are_found_shared_weights_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.second.weight = self.first.weight
            self.table, self.act = nn.Parameter(torch.ones(2, 2)), nn.PReLU(2)

    slots = layer_weights(Population.of([Tied()]))
    assert [slot.name for slot in slots] == ["conv.weight", "first.weight"]


@pytest.mark.parametrize(
    "module", [nn.BatchNorm2d(2), nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)))]
)
def test_networks_without_weights_to_round_are_refused(module):
    with pytest.raises(TargetError, match="with weights of their own"):
        layer_weights(Population.of([module]))
