"""Faster convolutions and pooling on the CPU, for what a target computes inside `with FastCPU():`.

Some of PyTorch's CPU kernels are slow where small convolutional nets need them most: the gradient
with respect to a one-channel input (an attack's every step ends there), and max-pooling, above all
of tensors that are not channels-last. The convolution that sees the images therefore answers in
channels-last memory, and the layers after it follow. Same numbers to float rounding, up to several
times the speed; on other devices and for other shapes nothing changes.

Channels-last tensors have no `view(len(x), -1)`: a target's `forward` says `flatten(1)`.

Importing this also tells the C library to keep what is freed for the next step, in the whole
process: otherwise glibc hands megabytes back and takes them again, page by page, for up to a
quarter of an attack's time.
"""

import contextlib
import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What glibc's malloc.h calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, another system
    ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 2**30)
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**25)  # the most it takes

IMAGE_CHANNELS = 4
"""An input of at most this many channels is taken to be images."""


class _GreyConv2d(torch.autograd.Function):
    """A convolution whose input gradient is one matrix product and a few shifted sums."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, dilation
        return torch.conv2d(images, _channels_last(weight), bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        images, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        grad_images = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_images = _input_gradient(grad, weight, images.shape, stride, padding, dilation)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad,
                images,
                _channels_last(weight),
                [weight.shape[0]],
                stride,
                padding,
                dilation,
                False,
                [0, 0],
                1,
                [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]],
            )
        return grad_images, grad_weight, grad_bias, None, None, None


def _input_gradient(
    grad: Tensor,
    weight: Tensor,
    shape: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Gradient [B,O,h,w] of the output -> gradient [B,C,H,W] of the input."""
    height, width = shape[2] + 2 * padding[0], shape[3] + 2 * padding[1]
    # Measured: kernels of another width lose more to the rounding up than they gain.
    odd_and_wide = weight.shape[3] > 3 and weight.shape[3] % 2 == 1
    if odd_and_wide and stride == dilation == (1, 1) and grad.shape[3] % 2 == 0:
        padded = _gradient_by_twos(grad, weight, height)
    else:
        padded = _padded_gradient(grad, weight, height, width, stride, dilation)
    rows, cols = slice(padding[0], height - padding[0]), slice(padding[1], width - padding[1])
    return padded[:, :, rows, cols].transpose(0, 1)


def _padded_gradient(
    grad: Tensor,
    weight: Tensor,
    height: int,
    width: int,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Gradient [C,B,height,width] of the padded input."""
    (batch, out, h, w), (_, channels, kh, kw) = grad.shape, weight.shape
    pixels = grad.permute(0, 2, 3, 1).reshape(-1, out)
    columns = (weight.flatten(1).t() @ pixels.t()).view(channels, kh, kw, batch, h, w)
    padded = grad.new_zeros(channels, batch, height, width)
    for i, column in enumerate(columns.unbind(1)):
        rows = slice(i * dilation[0], i * dilation[0] + (h - 1) * stride[0] + 1, stride[0])
        seen = padded[:, :, rows]
        for j, pixel in enumerate(column.unbind(1)):
            cols = slice(j * dilation[1], j * dilation[1] + (w - 1) * stride[1] + 1, stride[1])
            seen[..., cols].add_(pixel)
    return padded


def _gradient_by_twos(grad: Tensor, weight: Tensor, height: int) -> Tensor:
    """As `_padded_gradient` at stride 1, two neighbours in a row as one pixel: w even, kw odd.

    That has twice the channels, in and out, so each product is longer and its result, which takes
    most of the time to write and to add up, a good third smaller.
    """
    (batch, out, h, w), (_, channels, kh, kw) = grad.shape, weight.shape
    grad = grad.permute(0, 2, 3, 1).reshape(batch, h, w // 2, 2 * out).permute(0, 3, 1, 2)
    wide = weight.new_zeros(2, out, channels, kh, kw + 1)
    wide[0, ..., :kw] = weight  # seen from the left one of two pixels
    wide[1, ..., 1:] = weight
    wide = wide.view(2 * out, channels, kh, -1, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)
    padded = _padded_gradient(grad, wide, height, w // 2 + wide.shape[3] - 1)
    return padded.view(channels, 2, *padded.shape[1:]).permute(0, 2, 3, 4, 1).flatten(3)


def _pair(value: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if images.ndim == 4 and images.shape[1] <= IMAGE_CHANNELS and images.device.type == "cpu":
        if images.shape[1] == groups == 1 and not isinstance(padding, str):
            geometry = _pair(stride), _pair(padding), _pair(dilation)
            return _GreyConv2d.apply(images, weight, bias, *geometry)  # pyright: ignore
        weight = _channels_last(weight)
    return torch.conv2d(images, weight, bias, stride, padding, dilation, groups)


def _max_pool2d(
    images: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: Any = False,
) -> Any:
    options = stride, padding, dilation, ceil_mode, return_indices
    halves = [_pair(kernel_size), _pair(stride or kernel_size)] == [(2, 2)] * 2
    plain = halves and _pair(padding) == (0, 0) and _pair(dilation) == (1, 1) and not return_indices
    recorded = torch.is_grad_enabled() and images.requires_grad
    if recorded or not plain or not _has_pairs_on_cpu(images):
        return F.max_pool2d(images, kernel_size, *options)
    # PyTorch's kernel also notes where each maximum was, which takes it four times as long.
    pairs = images.permute(0, 2, 3, 1).unflatten(1, (-1, 2))
    rows = torch.maximum(*pairs.unbind(2)).unflatten(2, (-1, 2))
    return torch.maximum(*rows.unbind(3)).permute(0, 3, 1, 2)


def _has_pairs_on_cpu(images: Tensor) -> bool:
    """Whether these are images [B,C,H,W], H and W even, in a CPU's memory and channels-last."""
    return (
        images.device.type == "cpu"
        and images.ndim == 4
        and images.shape[2] % 2 == images.shape[3] % 2 == 0
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _channels_last(weight: Tensor) -> Tensor:
    # One operand in this format is enough for PyTorch to answer in it.
    return weight.to(memory_format=torch.channels_last)


_FASTER = {torch.conv2d: _conv2d, F.max_pool2d: _max_pool2d}


class FastCPU(TorchFunctionMode):
    """Inside this context, in this thread, `conv2d` and `max_pool2d` take the faster CPU paths."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _FASTER.get(func, func)(*args, **(kwargs or {}))
