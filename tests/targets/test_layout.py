"""Flat vectors and named tensors, there and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from targets import TargetError, WeightLayout

SIZES = st.integers(1, 4)
KINDS = ["linear", "conv", "norm", "prelu"]


@st.composite
def modules(draw) -> nn.Module:
    """A few layers, nested or not, that need not fit one another."""
    layers = []
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)):
        layer = {
            "linear": lambda: nn.Linear(draw(SIZES), draw(SIZES), bias=draw(st.booleans())),
            "conv": lambda: nn.Conv2d(draw(SIZES), draw(SIZES), draw(SIZES)),
            "norm": lambda: nn.BatchNorm2d(draw(SIZES)),
            "prelu": lambda: nn.PReLU(draw(SIZES)),
        }[kind]()
        layers.append(nn.Sequential(layer) if draw(st.booleans()) else layer)
    return nn.Sequential(*layers)


@settings(deadline=None, max_examples=50)
@given(modules(), st.lists(st.integers(0, 3), max_size=2))
def test_round_trip(module, lead):
    layout = WeightLayout.of(module)
    theta = torch.arange(torch.Size([*lead, layout.size]).numel()).view(*lead, layout.size)
    tensors = layout.unflatten(theta)
    assert list(tensors) == [name for name, _ in module.named_parameters()]
    for name, parameter in module.named_parameters():
        assert tensors[name].shape == (*lead, *parameter.shape)
    assert torch.equal(layout.flatten(tensors), theta)
    own = layout.flatten(module.state_dict())
    assert torch.equal(own, torch.cat([parameter.flatten() for parameter in module.parameters()]))


def test_gradients_flow_back():
    layout = WeightLayout.of(nn.Linear(2, 3))
    theta = torch.zeros(2, layout.size, requires_grad=True)
    layout.unflatten(theta)["bias"].sum().backward()
    assert torch.equal(theta.grad, torch.tensor([[0.0] * 6 + [1.0] * 3]).expand(2, -1))


def test_shared_weights_are_listed_once():
    shared = nn.PReLU()
    module = nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared)
    module[2].weight = module[0].weight
    assert WeightLayout.of(module).size == 4 + 2 + 1 + 2


def test_scales():
    module = nn.Sequential(nn.Conv2d(4, 2, 5), nn.BatchNorm2d(2), nn.PReLU(2), nn.Linear(16, 3))
    scales = WeightLayout.of(module).unflatten(WeightLayout.of(module).scales())
    expected = {"0": 0.1, "1": 0.1, "2": 0.1, "3": 0.25}  # 1/sqrt(4*5*5), two without fan-in, 1/4
    for name, scale in scales.items():
        torch.testing.assert_close(scale, torch.full_like(scale, expected[name[0]]))


def test_fingerprint_tells_layouts_apart():
    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)

    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(3, 2), nn.Linear(2, 3)

    different = [
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2, bias=False)),
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)),  # as many weights, other shapes
        Renamed(),
        Swapped(),
    ]
    fingerprints = {WeightLayout.of(module).fingerprint for module in different}
    assert len(fingerprints) == len(different)
    # Weight files name it, so it must never change for a layout that has not.
    assert WeightLayout.of(different[0]).fingerprint == "cdd0c45a1d4d3ff4"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(3, 2)}, "weights lack the tensor 'bias'"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)},
            r"'weight': expected shape \(3, 2\), got \(2, 3\)",
        ),
        (
            {"weight": torch.zeros(2), "bias": torch.zeros(3)},
            r"'weight': expected shape \(3, 2\), got \(2,\)",
        ),
    ],
)
def test_refuses_other_tensors(tensors, message):
    with pytest.raises(TargetError, match=message):
        WeightLayout.of(nn.Linear(2, 3)).flatten(tensors)


@pytest.mark.parametrize("shape", [(8,), (10,), (2, 8), ()])
def test_refuses_other_sizes(shape):
    with pytest.raises(TargetError, match="expected 9 weights"):
        WeightLayout.of(nn.Linear(2, 3)).unflatten(torch.zeros(shape))
