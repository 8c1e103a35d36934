"""What normalises images and values."""

import pytest
import torch
from torch import nn

from targets import NORMALIZED, build
from targets.normalization import normalize


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_images():
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2471, 0.2435, 0.2616])
    layer = normalize(3)
    images = mean.view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert layer(images).abs().max() < 1e-6
    torch.testing.assert_close(layer(torch.ones(1, 3, 1, 1)).flatten(), (1 - mean) / std)
    ends = normalize(1)(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1))
    assert ends.flatten().tolist() == [-1, 0, 1]
    assert not layer.state_dict() and layer.double().mean.dtype == torch.float64


@pytest.mark.parametrize("kind", ["batch", "group", "none"])
@pytest.mark.parametrize("target", NORMALIZED)
def test_kinds(target, kind):
    with torch.device("meta"):
        net = build(target if kind == "batch" else f"{target}-{kind}", input_shape=(1, 8, 8))
    found = [type(layer) for layer in net.modules()]
    expected = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "none": nn.Identity}
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    # One a convolution; PreActResNet-18's three shortcuts have none.
    shortcuts = sum(layer.kernel_size == (1, 1) for layer in convolutions)
    assert found.count(expected[kind]) == len(convolutions) - shortcuts
    assert not any(found.count(layer) for layer in expected.values() if layer != expected[kind])
    assert all((layer.bias is not None) == (kind == "none") for layer in convolutions)


@pytest.mark.parametrize("kind", ["group", "none"])
def test_only_batch_norm_mixes_images_in_training(kind):
    images = torch.rand(4, 3, 8, 8)
    net = build(f"resnet20-{kind}", input_shape=(3, 8, 8))
    torch.testing.assert_close(net(images)[:1], net(images[:1]))
    batch = build("resnet20", input_shape=(3, 8, 8))
    assert (batch(images)[:1] - batch(images[:1])).abs().max() > 0.01


def test_without_normalisation_depth_does_not_multiply_values():
    shallow, deep = (build(f"resnet{depth}-none", input_shape=(3, 8, 8)) for depth in (20, 56))
    images = torch.rand(8, 3, 8, 8)
    assert deep.layers(images).std() < 2 * shallow.layers(images).std()
