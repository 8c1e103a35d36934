"""The residual networks against their papers."""

import pytest
import torch
from torch import nn

from targets import build
from targets.resnet import Block, PreActBlock


def convolutions(net: nn.Module) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, stride) of each."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    return [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in layers]


@pytest.mark.parametrize("depth", [20, 56])
def test_depth_and_size(depth):
    """6n+1 convolutions and a dense layer; 2n of 16, 32 and 64 filters in turn."""
    net, n = build(f"resnet{depth}", input_shape=(3, 32, 32)), (depth - 2) // 6
    found = convolutions(net)
    assert len(found) + 1 == depth and found[0] == (3, 16, 3, 1)
    for stage, filters in enumerate((16, 32, 64)):
        layers = found[1 + 2 * n * stage :][: 2 * n]
        assert layers[0] == (max(16, filters // 2), filters, 3, 2 if stage else 1)
        assert set(layers[1:]) == {(filters, filters, 3, 1)}
    with torch.no_grad():
        assert net.eval().layers(torch.rand(1, 3, 32, 32)).shape == (1, 64, 8, 8)


def test_shortcuts_are_those_of_option_a():
    block = Block(4, 8, 2, "relu", "batch").eval()
    nn.init.zeros_(block.norm2.weight)  # nothing but the shortcut is left
    values = torch.rand(2, 4, 6, 6)
    with torch.no_grad():
        found = block(values)
    assert torch.equal(found[:, :4], values[:, :, ::2, ::2])
    assert found[:, 4:].shape == (2, 4, 3, 3) and not found[:, 4:].any()


def test_preactresnet18_is_that_of_fbf():
    net = build("preactresnet18", input_shape=(3, 32, 32))
    expected = [(3, 64, 3, 1)]
    for before, after in ((64, 64), (64, 128), (128, 256), (256, 512)):
        expected += [(before, after, 3, 1 if before == after else 2), (after, after, 3, 1)]
        if before != after:
            expected.append((before, after, 1, 2))
        expected += [(after, after, 3, 1)] * 2
    assert convolutions(net) == expected
    with torch.no_grad():
        assert net.eval().layers(torch.rand(1, 3, 32, 32)).shape == (1, 512, 4, 4)


def test_preactivation_blocks():
    """An untouched shortcut, or one that starts from what is normalised and activated."""
    values = torch.randn(2, 4, 6, 6)
    same, other = (PreActBlock(4, c, s, "relu", "none") for c, s in ((4, 1), (8, 2)))
    with torch.no_grad():
        for block in (same, other):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
        assert torch.equal(same(values), values)
        by_hand = nn.functional.conv2d(
            values.relu(), other.shortcut.weight, other.shortcut.bias, stride=2
        )
        torch.testing.assert_close(other(values), by_hand)
