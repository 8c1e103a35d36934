"""The faster CPU paths against PyTorch's own."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from targets import build, fast_conv
from targets.fast_cpu import FastCPU
from targets.traits import is_regular

# (batch, channels, height, width), (filters, kernel height, kernel width), options of conv2d
CASES = [
    ((3, 1, 28, 28), (8, 5, 5), {}),
    ((2, 1, 28, 28), (4, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 1, 9, 7), (3, 3, 2), {"stride": (2, 1), "padding": (0, 2)}),
    ((2, 1, 12, 11), (3, 3, 2), {"dilation": (2, 3), "padding": 1}),
    ((1, 1, 8, 10), (1, 3, 4), {"stride": (3, 2), "dilation": (1, 2), "padding": (1, 3)}),
    ((2, 1, 7, 7), (2, 1, 1), {"stride": 3}),  # the last rows and columns are seen by no window
    ((2, 1, 5, 5), (2, 5, 5), {}),
    ((2, 1, 9, 10), (3, 3, 5), {"padding": (1, 2)}),  # two neighbours at a time
    ((2, 1, 8, 11), (2, 2, 5), {"padding": 1, "stride": (2, 1)}),
    ((2, 1, 8, 11), (2, 2, 5), {}),  # of an odd number of them
    ((2, 1, 9, 7), (3, 3, 3), {"stride": 2, "padding": (0, 2)}),
    ((1, 1, 8, 10), (1, 4, 4), {"stride": [3], "padding": (1, 3)}),
    ((2, 1, 9, 10), (3, 5, 5), {"padding": (1, 2)}),
    ((2, 1, 8, 11), (2, 5, 5), {}),
    ((1, 1, 6, 6), (2, 3, 3), {"padding": "same"}),
    ((2, 3, 8, 8), (4, 3, 3), {"padding": 1}),
    ((2, 4, 8, 8), (4, 3, 3), {"groups": 2}),
    ((2, 6, 8, 8), (4, 3, 3), {"stride": 2}),
]
EVERY = pytest.mark.parametrize(
    ("shape", "kernel", "options"), CASES, ids=lambda value: str(value).replace(" ", "")
)


@pytest.fixture(autouse=True)
def long_registers(monkeypatch):
    """The ways chosen with AVX-512, on every machine."""
    monkeypatch.setattr(fast_conv, "REGISTER", 64)


def operands(shape, kernel, options, bias=True):
    rng = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=rng, dtype=torch.float64)
    weight = draw(kernel[0], shape[1] // options.get("groups", 1), *kernel[1:])
    tensors = [draw(*shape), weight, draw(kernel[0]) if bias else None]
    return [None if tensor is None else tensor.requires_grad_() for tensor in tensors]


def fast(*args, **options):
    with FastCPU():
        return F.conv2d(*args, **options)


@pytest.mark.parametrize(
    ("channels", "kernel", "options", "regular"),
    [
        (1, (5, 5), {}, True),
        (3, (3, 3), {"stride": (2, 2), "padding": "same"}, True),
        (3, (1, 1), {}, True),
        (32, (1, 1), {"stride": 2}, True),
        (3, (1, 1), {"stride": 2}, False),
        (1, (5, 27), {"stride": (1, 2)}, False),
        (1, (3, 3), {"stride": (1, 2)}, False),
        (1, (3, 3), {"dilation": 2}, False),
        (4, (3, 3), {"groups": 2}, False),
        (1, (12, 12), {}, False),
    ],
    ids=str,
)
def test_kernels_that_are_trusted(channels, kernel, options, regular):
    weight = torch.empty(4, channels // options.get("groups", 1), *kernel)
    assert is_regular(torch.empty(1, channels, 28, 28), weight, **options) == regular


@EVERY
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(shape, kernel, options, bias):
    tensors = operands(shape, kernel, options, bias)
    given = [tensor for tensor in tensors if tensor is not None]
    expected, found = F.conv2d(*tensors, **options), fast(*tensors, **options)
    torch.testing.assert_close(found, expected)
    grad = torch.randn(expected.shape, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(found, given, grad),
        torch.autograd.grad(expected, given, grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_the_gradients_asked_for(needed):
    tensors = [tensor.detach() for tensor in operands(*CASES[1])]
    for index in needed:
        tensors[index].requires_grad_()
    fast(*tensors, **CASES[1][2]).sum().backward()
    for index, tensor in enumerate(tensors):
        assert (tensor.grad is not None) == (index in needed)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((1, 3, 3), {}),
        ((1, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 2, 2), {"stride": 3, "padding": (0, 1)}),
        ((1, 5, 5), {"padding": (1, 2)}),
    ],
    ids=str,
)
def test_gradients_of_gradients(kernel, options):
    tensors = operands((2, 1, 4, 5 + kernel[2] % 2), kernel, options)
    call = partial(fast, **options)
    assert gradcheck(call, tensors)
    assert gradgradcheck(call, tensors)


class Ways(TorchDispatchMode):
    """Notes which ways of `fast_conv` are gone inside this context, in order."""

    def __init__(self):
        super().__init__()
        self.gone = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            if args[3] == [1, 2]:
                self.gone.append("by twos")
            if args[6]:
                self.gone.append("transposed")
        return func(*args, **(kwargs or {}))


def in_float32(images, *weights):
    """Operands whose images lie channels-last."""
    images = images.to(memory_format=torch.channels_last)
    return [tensor.detach().float() for tensor in (images, *weights)]


def answers(call, *tensors):
    """What `call` says to float32 operands, and its gradients."""
    tensors = [tensor.requires_grad_() for tensor in in_float32(*tensors)]
    found = call(*tensors)
    seed = torch.Generator().manual_seed(1)
    grads = torch.autograd.grad(found, tensors, torch.randn(found.shape, generator=seed))
    return found, *grads


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "ways"),
    [
        ((3, 1, 28, 28), (8, 5, 5), {}, "by twos"),
        ((2, 1, 28, 28), (6, 5, 5), {"padding": 2}, "by twos"),
        ((2, 3, 32, 32), (8, 5, 5), {}, "by twos"),
        ((1, 1, 11, 12), (2, 7, 7), {"padding": (0, 1)}, "by twos"),
        ((2, 1, 27, 27), (8, 5, 5), {}, "neither"),  # an odd width
        ((2, 1, 28, 28), (8, 5, 5), {"stride": 2}, "neither"),
        ((2, 1, 28, 28), (16, 5, 5), {}, "neither"),
        ((2, 1, 28, 28), (8, 3, 3), {}, "neither"),
        ((3, 8, 12, 12), (16, 5, 5), {}, "transposed"),
        ((2, 6, 14, 14), (16, 5, 5), {}, "transposed"),
        ((1, 8, 11, 13), (3, 7, 7), {"padding": (2, 1)}, "transposed"),
        ((2, 3, 12, 12), (8, 5, 5), {}, "by twos, transposed"),
        ((2, 8, 14, 14), (16, 5, 5), {"padding": 2}, "neither"),
        ((2, 8, 28, 28), (16, 11, 11), {}, "neither"),
        ((2, 32, 12, 12), (16, 5, 5), {}, "neither"),
        ((2, 8, 12, 12), (16, 5, 5), {"stride": 2}, "neither"),
        ((2, 3, 32, 32), (16, 3, 3), {"padding": 1}, "neither"),
        ((2, 16, 16, 16), (16, 3, 3), {"padding": 1}, "neither"),
    ],
    ids=str,
)
def test_ways_and_what_they_answer(shape, kernel, options, ways):
    tensors = operands(shape, kernel, options)
    with Ways() as seen:
        mine = answers(partial(fast, **options), *tensors)
    assert (", ".join(seen.gone) or "neither") == ways
    theirs = answers(partial(F.conv2d, **options), *tensors)
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert mine[0].is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_shapes(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    side = draw(1, 7)
    shape = draw(1, 3), draw(1, 17), draw(side, 17), draw(side, 17)
    options = {"stride": draw(1, 2), "padding": (draw(0, 3), draw(0, 3))}
    tensors = operands(shape, (draw(1, 9), side, side), options)
    mine, theirs = (answers(partial(call, **options), *tensors) for call in (fast, F.conv2d))
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel"), [((7, 1, 28, 28), (8, 5, 5)), ((7, 8, 12, 12), (16, 5, 5))]
)
def test_parts_of_a_batch_have_the_bits_of_the_whole(shape, kernel):
    images, *weights = in_float32(*operands(shape, kernel, {}))

    def answer(part):
        mine = images[part].requires_grad_()
        found = fast(mine, *weights)
        return found.detach(), torch.autograd.grad(found.square().sum(), mine)[0]

    whole = answer(slice(0, 7))
    for part in (slice(0, 1), slice(1, 4), slice(4, 7)):
        for mine, expected in zip(answer(part), whole, strict=True):
            assert torch.equal(mine, expected[part])


def test_gradient_of_a_transposed_gradient():
    """The way is for float32 alone, which is too coarse for gradgradcheck."""
    tensors = operands((2, 4, 8, 8), (3, 5, 5), {})

    def twice(call, *tensors):
        (grad,) = torch.autograd.grad(call(*tensors).square().sum(), tensors[0], create_graph=True)
        return grad.square().mean()

    mine, theirs = (answers(partial(twice, call), *tensors) for call in (fast, F.conv2d))
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_pooling_follows_in_the_fast_format():
    """Max-pooling is fast on channels-last tensors, so that is how the first layer answers."""
    for channels in (1, 3):
        answer = fast(torch.rand(2, channels, 8, 8), torch.rand(4, channels, 3, 3))
        assert answer.is_contiguous(memory_format=torch.channels_last)
        with FastCPU():
            pooled = torch.nn.MaxPool2d(2)(answer)
        assert pooled.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(pooled, F.max_pool2d(answer.contiguous(), 2))


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        (2,),
        (2, 2),
        ((2, 2), (2, 2), 0, 1, True),
        (2, 1),
        (2, (2, 1)),
        (3, 2),
        ((2, 3),),
        (2, 2, 1),
        (2, 2, 0, 2),
        (2, 2, 0, 1, False, True),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "shape", [(3, 4, 8, 6), (3, 4, 7, 6), (3, 4, 6, 9), (4, 6, 8), (2, 1, 4, 4)]
)
def test_pooling(shape, options, recorded):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images.view(-1)[5] = torch.nan
    formats = [torch.contiguous_format] + [torch.channels_last] * (len(shape) == 4)
    for memory_format in formats:
        mine = images.to(memory_format=memory_format, copy=True).requires_grad_(recorded)
        with torch.set_grad_enabled(recorded), FastCPU():
            found = F.max_pool2d(mine, *options)
        expected = F.max_pool2d(mine, *options)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        maxima = found[0] if isinstance(found, tuple) else found
        assert maxima.requires_grad == recorded


@pytest.mark.parametrize(
    "flatten", [torch.flatten, torch.Tensor.flatten], ids=["function", "method"]
)
@pytest.mark.parametrize("options", [(1,), (), (2,), (1, 2)], ids=str)
def test_flattening_sends_back_gradients_in_the_fast_format(flatten, options):
    images = torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    seen = []
    with FastCPU():
        before = images * 2
        found = flatten(before, *options)
    before.register_hook(lambda grad: seen.append(grad))
    torch.testing.assert_close(found, (images * 2).contiguous().flatten(*options), rtol=0, atol=0)
    weights = torch.randn_like(found)
    (grad,) = torch.autograd.grad((found * weights).sum(), images)
    torch.testing.assert_close(grad, 2 * weights.view(images.shape), rtol=0, atol=0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images.sum()

    @staticmethod
    def backward(ctx, *grads):
        return None


def test_flattening_knows_of_gradients_that_are_not_there():
    images = torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    with FastCPU():
        before = images * 2
        total = NoGradient.apply(before.flatten(1)) + images.sum()
        with torch.no_grad():
            before.flatten(1)  # which leaves nothing behind
    assert len(before._backward_hooks) == 1
    (grad,) = torch.autograd.grad(total, images)
    assert grad.equal(torch.ones_like(images))


def test_flattening_leaves_a_users_tensor_alone():
    images = torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    with FastCPU():
        assert images.flatten(1).grad_fn is not None
    assert not images._backward_hooks


@pytest.mark.parametrize("target", ["vgg", "resnet20", "preactresnet18"])
def test_colour_targets(target):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(target, input_shape=(3, 8, 8)).double().eval()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    results = []
    for context in (nullcontext, FastCPU):
        with context():
            logits = net(images)
        results.append((logits, *torch.autograd.grad(logits.square().sum(), images)))
    for plain, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain)


def test_no_images():
    images, weight = torch.rand(0, 1, 8, 8, requires_grad=True), torch.rand(2, 1, 3, 3)
    answer = fast(images, weight)
    answer.sum().backward()
    assert answer.shape == (0, 2, 6, 6) and images.grad.shape == images.shape
    with FastCPU(), torch.no_grad():
        assert F.max_pool2d(answer, 2).shape == (0, 2, 3, 3)


def test_single_image_without_batch():
    image, weight = torch.rand(1, 8, 8), torch.rand(2, 1, 3, 3)
    torch.testing.assert_close(fast(image, weight), F.conv2d(image, weight))


def test_nothing_outside_the_context():
    images = torch.rand(1, 1, 4, 4, requires_grad=True)
    assert "_Conv2d" in type(fast(images, torch.rand(1, 1, 2, 2)).grad_fn).__name__
    assert "_Conv2d" not in type(F.conv2d(images, torch.rand(1, 1, 2, 2)).grad_fn).__name__
