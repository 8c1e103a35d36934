"""Convolutions on a CPU that are faster than PyTorch's own where small networks need them most.

An attack's every step ends in the gradient with respect to the images, so that of a one-channel
input and that of a small input, much wider than its output, have ways of their own, and so has the
convolution of images into few channels. All give the same numbers to float rounding.
"""

from typing import Any

import torch
from torch import Tensor

from targets.traits import is_regular, pair

IMAGE_CHANNELS = 4
"""An input of at most this many channels is taken to be images."""
LARGE_KERNEL = 5
"""Narrower ones hardly gain by twos, and transposed they give a single image other bits."""
REGISTER = {"AVX512": 64, "AVX2": 32}.get(torch.backends.cpu.get_cpu_capability(), 0)
"""Bytes that a vector register holds; 0 for processors on which nothing was measured."""


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.conv2d`; where the input is images, the output lies channels-last in memory."""
    options = stride, padding, dilation, groups
    if not (_is_plain(input, weight) and is_regular(input, weight, bias, *options)):
        return torch.conv2d(input, weight, bias, *options)
    if not isinstance(padding, str):
        own = input, weight, pair(stride), pair(padding)
        if input.shape[1] == 1 or _fits_by_twos(*own) or _is_mostly_padding(*own):
            return _Conv2d.apply(input, weight, bias, *own[2:])  # pyright: ignore
    images = input.shape[1] <= IMAGE_CHANNELS
    return torch.conv2d(input, _channels_last(weight) if images else weight, bias, *options)


def _is_plain(input: Tensor, weight: Tensor) -> bool:
    """Whether the input is a batch [B,C,H,W] in a CPU's memory, not empty and with all bits."""
    return (
        input.ndim == 4
        and input.shape[1:2] == weight.shape[1:2]
        and input.numel() > 0
        and input.device.type == "cpu"
        and input.dtype == weight.dtype
        and input.dtype in (torch.float32, torch.float64)
    )


def _fits_by_twos(
    input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> bool:
    """Whether `_by_twos` can answer, and is faster.

    Measured for inputs of up to 4 channels: while two outputs fill one vector register it takes 0.7
    to 0.8 of the time, and with more filters, among them the 16 and 64 of the colour targets, 0.9
    to 2. Registers are twice as long with AVX-512, and what gains there may lose without.
    """
    columns = _columns(input, weight, padding)
    return (
        input.shape[1] <= IMAGE_CHANNELS
        and 2 * len(weight) * weight.element_size() <= REGISTER
        and weight.shape[3] >= LARGE_KERNEL
        and stride == (1, 1)
        and columns > 0 == columns % 2
    )


def _is_mostly_padding(
    input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> bool:
    """Whether the input gradient is faster as a transposed convolution in contiguous memory.

    PyTorch's channels-last kernel multiplies the zeros around the output's gradient too: for an
    input of 12 x 12 and an output of 8 x 8 that is most of its work. The other skips them. Measured
    with its copies: 0.6 to 0.9 of the time with AVX-512, 0.8 to 1.1 without. It loses where the
    output is as large as the input, as with most 3 x 3 kernels, with more than 16 channels, on
    larger inputs (what it takes to copy) and in float64 (another kernel).
    """
    return (
        input.shape[1] <= 16
        and input.shape[3] <= 16
        and 4 * _columns(input, weight, padding) <= 3 * input.shape[3]
        and weight.shape[3] >= LARGE_KERNEL
        and stride == (1, 1)
        and input.dtype == torch.float32
        and input.is_contiguous(memory_format=torch.channels_last)
    )


def _columns(input: Tensor, weight: Tensor, padding: tuple[int, int]) -> int:
    """The output's width at a stride of 1."""
    return input.shape[3] + 2 * padding[1] - weight.shape[3] + 1


class _Conv2d(torch.autograd.Function):
    """A convolution, and its gradients, each in the fastest way."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.geometry = stride, padding
        if _fits_by_twos(input, weight, stride, padding):
            return _by_twos(input, weight, bias, padding)
        return torch.conv2d(input, _channels_last(weight), bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        input, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        grad_input = grad_weight = grad_bias = None
        wanted = list(ctx.needs_input_grad[:3])
        if wanted[0] and input.shape[1] == 1:
            grad_input = _grey_gradient(grad, weight, input.shape, stride[0], padding)
            wanted[0] = False
        elif wanted[0] and _is_mostly_padding(input, weight, stride, padding):
            grad_input = torch.conv_transpose2d(grad.contiguous(), weight, padding=padding)
            grad_input = _channels_last(grad_input)
            wanted[0] = False
        if any(wanted):
            theirs, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad,
                input,
                _channels_last(weight),
                [weight.shape[0]],
                stride,
                padding,
                [1, 1],
                False,
                [0, 0],
                1,
                wanted,
            )
            grad_input = theirs if wanted[0] else grad_input
        return grad_input, grad_weight, grad_bias, None, None


def _by_twos(
    images: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]
) -> Tensor:
    """A convolution at stride 1, two neighbours in a row of the output as one pixel: w even.

    That has twice the channels, and few of them would leave half of a vector register empty.
    """
    wide = _channels_last(_seen_by_two(weight).flatten(0, 1))
    bias = None if bias is None else bias.repeat(2)
    pixels = torch.conv2d(images, wide, bias, (1, 2), padding).permute(0, 2, 3, 1)
    return pixels.reshape(*pixels.shape[:2], -1, len(weight)).permute(0, 3, 1, 2)


def _seen_by_two(weight: Tensor) -> Tensor:
    """Kernels [O,C,kh,kw] -> [2,O,C,kh,kw+1], as seen from the left and the right of two pixels."""
    wide = weight.new_zeros(2, *weight.shape[:3], weight.shape[3] + 1)
    wide[0, ..., :-1] = weight
    wide[1, ..., 1:] = weight
    return wide


def _grey_gradient(
    grad: Tensor, weight: Tensor, shape: torch.Size, stride: int, padding: tuple[int, int]
) -> Tensor:
    """Gradient [B,O,h,w] of the output -> gradient [B,C,H,W] of the input."""
    height, width = shape[2] + 2 * padding[0], shape[3] + 2 * padding[1]
    # Measured: kernels of another width lose more to the rounding up than they gain.
    odd_and_wide = weight.shape[3] > 3 and weight.shape[3] % 2 == 1
    if odd_and_wide and stride == 1 and grad.shape[3] % 2 == 0:
        padded = _gradient_by_twos(grad, weight, height)
    else:
        padded = _padded_gradient(grad, weight, height, width, stride)
    rows, cols = slice(padding[0], height - padding[0]), slice(padding[1], width - padding[1])
    return padded[:, :, rows, cols].transpose(0, 1)


def _padded_gradient(
    grad: Tensor, weight: Tensor, height: int, width: int, stride: int = 1
) -> Tensor:
    """Gradient [C,B,height,width] of the padded input."""
    (batch, out, h, w), (_, channels, kh, kw) = grad.shape, weight.shape
    pixels = grad.permute(0, 2, 3, 1).reshape(-1, out)
    columns = (weight.flatten(1).t() @ pixels.t()).view(channels, kh, kw, batch, h, w)
    padded = grad.new_zeros(channels, batch, height, width)
    for i, column in enumerate(columns.unbind(1)):
        rows = padded[:, :, i : i + (h - 1) * stride + 1 : stride]
        for j, pixel in enumerate(column.unbind(1)):
            rows[..., j : j + (w - 1) * stride + 1 : stride].add_(pixel)
    return padded


def _gradient_by_twos(grad: Tensor, weight: Tensor, height: int) -> Tensor:
    """As `_padded_gradient` at stride 1, two neighbours in a row as one pixel: w even, kw odd.

    That has twice the channels, in and out, so each product is longer and its result, which takes
    most of the time to write and to add up, a good third smaller.
    """
    (batch, out, h, w), (_, channels, kh, _) = grad.shape, weight.shape
    grad = grad.permute(0, 2, 3, 1).reshape(batch, h, w // 2, 2 * out).permute(0, 3, 1, 2)
    wide = _seen_by_two(weight)
    wide = wide.view(2 * out, channels, kh, -1, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)
    padded = _padded_gradient(grad, wide, height, w // 2 + wide.shape[3] - 1)
    return padded.view(channels, 2, *padded.shape[1:]).permute(0, 2, 3, 4, 1).flatten(3)


def _channels_last(weight: Tensor) -> Tensor:
    # One operand in this format is enough for PyTorch to answer in it.
    return weight.to(memory_format=torch.channels_last)
