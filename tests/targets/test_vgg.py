"""The nets of the study of activations against its description."""

import math

import pytest
import torch
from torch import nn

from targets import build


@pytest.mark.parametrize(
    ("target", "filters", "rates"),
    [
        ("vgg", [32, 32, 64, 64, 128, 128], [0.2, 0.25, 0.3, 0.35, 0.4]),
        ("light-cnn", [32, 32, 64, 64], [0.25, 0.25]),
    ],
)
def test_as_described(target, filters, rates):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(target, input_shape=(3, 32, 32))
    layers = list(net.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    dense = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [c.out_channels for c in convolutions] == filters
    assert [layer.out_features for layer in dense] == [128, 10]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == rates
    for layer in convolutions:
        following = layers[layers.index(layer) + 1 :][:2]
        assert [type(f) for f in following] == [nn.BatchNorm2d, nn.ReLU]
    for layer in convolutions + dense:  # He-uniform: +-sqrt(6 / fan-in)
        bound = math.sqrt(6 / layer.weight[0].numel())
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is None or not layer.bias.any()


def test_light_cnn_takes_any_size():
    net = build("light-cnn", input_shape=(3, 32, 32))
    assert net(torch.rand(2, 3, 20, 28)).shape == (2, 10)
