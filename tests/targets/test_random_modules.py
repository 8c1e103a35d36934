"""A population computes what the plain module computes, for modules drawn at random."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.targets.modules import Calls, check, outcome

PAIRS = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
PADDINGS = st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2)))


@st.composite
def convolutions(draw, channels: int):
    """One of any geometry; every other is square and plain, as those of most networks."""
    bias, mode = draw(st.booleans()), draw(st.sampled_from(["zeros", "zeros", "circular"]))
    kernel, stride, padding = draw(st.integers(1, 5)), draw(st.integers(1, 2)), draw(PADDINGS)
    dilation, groups = 1, 1
    if draw(st.booleans()):
        kernel = draw(st.tuples(st.integers(1, 6), st.integers(1, 9)))
        stride, dilation, groups = draw(PAIRS), draw(PAIRS), draw(st.sampled_from([1, channels]))
    if draw(st.integers(0, 3)) == 0:
        stride, padding = 1, draw(st.sampled_from(["same", "valid"]))
    filters = groups * draw(st.integers(1, 4))
    return nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, bias, mode)


MODES = st.sampled_from(["nearest", "bilinear"])
LAYERS = {
    "norm": lambda draw, channels: nn.BatchNorm2d(channels),
    "group": lambda draw, channels: nn.GroupNorm(1, channels),
    "instance": lambda draw, channels: nn.InstanceNorm2d(channels, affine=True),
    "relu": lambda draw, channels: nn.ReLU(draw(st.booleans())),
    "tanh": lambda draw, channels: nn.Tanh(),
    "prelu": lambda draw, channels: nn.PReLU(channels),
    "max": lambda draw, channels: nn.MaxPool2d(
        draw(PAIRS), draw(st.one_of(st.none(), PAIRS)), ceil_mode=draw(st.booleans())
    ),
    "halve": lambda draw, channels: nn.MaxPool2d(2),
    "average": lambda draw, channels: nn.AvgPool2d(draw(PAIRS)),
    "dropout": lambda draw, channels: draw(st.sampled_from([nn.Dropout, nn.Dropout2d]))(0.5),
    "shuffle": lambda draw, channels: nn.ChannelShuffle(channels),
    "transposed": lambda draw, channels: nn.ConvTranspose2d(channels, channels, draw(PAIRS)),
    "softmax": lambda draw, channels: nn.Softmax(1),
    "layer": lambda draw, channels: Calls(
        lambda self, x: self.norm(x.permute(0, 2, 3, 1)).movedim(-1, 1).contiguous(),
        norm=nn.LayerNorm(channels),
    ),
    "scaled": lambda draw, channels: nn.Upsample(scale_factor=2, mode=draw(MODES)),
    "pool": lambda draw, channels: nn.AdaptiveAvgPool2d(draw(PAIRS)),
    "largest": lambda draw, channels: nn.AdaptiveMaxPool2d(draw(PAIRS)),
    "padded": lambda draw, channels: Calls(lambda self, x: F.pad(x, (1, 0, -1, 2), value=0.5)),
    "normalised": lambda draw, channels: Calls(lambda self, x: F.normalize(x, dim=1)),
    "gated": lambda draw, channels: Calls(
        lambda self, x: torch.cat([a * b.sigmoid() for a, b in [(x, x.amax((2, 3), True))]], 1)
    ),
    "parts": lambda draw, channels: Calls(
        lambda self, x: torch.cat([x[..., ::2], x.narrow(3, 0, 1), *x.chunk(2, 3)], 3).clamp_(-1)
    ),
    "sorted": lambda draw, channels: Calls(lambda self, x: x.topk(channels, 1).values),
    "instance by hand": lambda draw, channels: Calls(instance_by_hand),
    "in groups": lambda draw, channels: Calls(
        lambda self, x: F.group_norm(x.reshape(1, -1, *x.shape[2:]), len(x)).reshape(x.shape)
    ),
    "stacked": lambda draw, channels: Calls(
        lambda self, x: torch.stack([x, x.square()], 1).softmax(1).unbind(1)[0]
    ),
    "matrix": lambda draw, channels: Calls(
        lambda self, x: (x @ x.transpose(2, 3)).squeeze(0).unsqueeze(0) if len(x) == 1 else x
    ),
    "attention": lambda draw, channels: Calls(squeeze_and_excite),
    "view": lambda draw, channels: Calls(lambda self, x: x.view(len(x), -1).view_as(x)),
    "reshape": lambda draw, channels: Calls(lambda self, x: x.reshape(-1).reshape(x.shape)),
    "flatten": lambda draw, channels: Calls(flatten_in_place),
    "strided": lambda draw, channels: Calls(lambda self, x: x + sum(x.stride()) / 1000),
    "contiguous": lambda draw, channels: Calls(lambda self, x: x * (1 + x.is_contiguous())),
    "memory": lambda draw, channels: Calls(lambda self, x: as_it_lies(x)),
    "unflatten": lambda draw, channels: Calls(
        lambda self, x: x.flatten(1).unflatten(1, x.shape[1:]).transpose(2, 3).contiguous()
    ),
}


def instance_by_hand(self, x):
    flat = x.reshape(1, -1, *x.shape[2:])
    return F.batch_norm(flat, None, None, training=True).reshape(x.shape)


def squeeze_and_excite(self, x):
    gates = x.mean((2, 3)).softmax(1)
    return x.mul(gates[:, :, None, None]).add_(x.logsumexp(1, keepdim=True))


def flatten_in_place(self, x):
    x = x * 1.5
    x.flatten(1).clamp_(min=-0.1)  # which changes x where flattening gives a view
    return x


def as_it_lies(x):
    return x + torch.as_strided(x, (x.numel(),), (1,))[: x.shape[-1]]


@st.composite
def modules(draw):
    """A few layers, and the number of channels of the images that they take."""
    channels = draw(st.integers(1, 5))
    layers, count = [draw(convolutions(channels))], channels
    count = layers[0].out_channels
    for kind in draw(st.lists(st.sampled_from(["conv", "conv", *LAYERS]), max_size=4)):
        layers.append(draw(convolutions(count)) if kind == "conv" else LAYERS[kind](draw, count))
        count = layers[-1].out_channels if kind == "conv" else count
    if draw(st.integers(0, 3)) == 0:
        layers.insert(0, LAYERS[draw(st.sampled_from([*LAYERS]))](draw, channels))
    return channels, nn.Sequential(*layers, nn.Flatten())


def is_square(module):
    """Whether all its convolutions are square and plain."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return all(
        len({*layer.kernel_size}) == len({*layer.stride}) == 1
        and (layer.kernel_size[0] > 1 or layer.stride[0] == 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        for layer in layers
    )


def works(module, images):
    """Whether the module itself takes images that lie like these, and has gradients."""
    module = copy.deepcopy(module).eval()
    try:
        return outcome(module, images, list(module.parameters()))[0].numel() > 0
    except (RuntimeError, ValueError):  # windows larger than the images, say
        return False


each_module = given(
    modules(),
    st.tuples(st.integers(1, 4), st.integers(3, 12), st.integers(3, 14)),
    st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)


@settings(deadline=None, max_examples=40)
@each_module
def test_layers(drawn, shape, dtype, memory_format):
    check_layers(drawn, shape, dtype, memory_format)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@each_module
def test_many_layers(drawn, shape, dtype, memory_format):
    check_layers(drawn, shape, dtype, memory_format)


def check_layers(drawn, shape, dtype, memory_format):
    """That a population computes what the module does, with images that the module takes."""
    channels, module = drawn
    module = module.to(dtype)
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(shape[0], channels, *shape[1:], generator=rng)
    if is_square(module):  # or PyTorch's own kernels may write where they must not
        images = images.to(memory_format=memory_format)
    images = images.to(dtype)
    assume(works(module, images))
    check(module, images)
