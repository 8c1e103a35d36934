"""Faster convolutions and pooling on the CPU, inside `with fast_context(module, images):`.

Some of PyTorch's CPU kernels are slow where small convolutional nets need them most: the gradient
with respect to a one-channel input (an attack's every step ends there), and max-pooling, above all
of tensors that are not channels-last. The convolution that sees the images therefore answers in
channels-last memory, and the layers after it follow. Same numbers to float rounding, up to several
times the speed; on other devices, for other shapes and for modules to which memory formats would
show (targets/traits.py) nothing changes.

Importing this also tells the C library to keep what is freed for the next step, in the whole
process: otherwise glibc hands megabytes back and takes them again, page by page, for up to a
quarter of an attack's time.
"""

import contextlib
import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from targets.traits import Traits, is_regular, pair, traits

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What glibc's malloc.h calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, another system
    ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 2**30)
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**25)  # the most it takes

IMAGE_CHANNELS = 4
"""An input of at most this many channels is taken to be images."""


def fast_context(module: nn.Module, images: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The context in which `module` is fastest on CPU images of the shape and type of [B,C,H,W].

    It may be entered again and again, in several threads, while the module's layers stay in their
    modes; gradients may be taken outside. What the module computes is the same, inside and outside.
    """
    return fast_where_safe(traits(module, images))


def fast_where_safe(found: Traits) -> contextlib.AbstractContextManager[Any]:
    """As `fast_context`, for a module of these traits."""
    return FastCPU() if found.ignores_memory_format else contextlib.nullcontext()


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
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding
        return torch.conv2d(images, _channels_last(weight), bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        images, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        grad_images = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_images = _input_gradient(grad, weight, images.shape, stride[0], padding)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad,
                images,
                _channels_last(weight),
                [weight.shape[0]],
                stride,
                padding,
                [1, 1],
                False,
                [0, 0],
                1,
                [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]],
            )
        return grad_images, grad_weight, grad_bias, None, None


def _input_gradient(
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
    (batch, out, h, w), (_, channels, kh, kw) = grad.shape, weight.shape
    grad = grad.permute(0, 2, 3, 1).reshape(batch, h, w // 2, 2 * out).permute(0, 3, 1, 2)
    wide = weight.new_zeros(2, out, channels, kh, kw + 1)
    wide[0, ..., :kw] = weight  # seen from the left one of two pixels
    wide[1, ..., 1:] = weight
    wide = wide.view(2 * out, channels, kh, -1, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)
    padded = _padded_gradient(grad, wide, height, w // 2 + wide.shape[3] - 1)
    return padded.view(channels, 2, *padded.shape[1:]).permute(0, 2, 3, 4, 1).flatten(3)


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    options = stride, padding, dilation, groups
    if not (_are_images(input, weight) and is_regular(input, weight, bias, *options)):
        return torch.conv2d(input, weight, bias, *options)
    if input.shape[1] == 1 and not isinstance(padding, str):
        geometry = pair(stride), pair(padding)
        return _GreyConv2d.apply(input, weight, bias, *geometry)  # pyright: ignore
    return torch.conv2d(input, _channels_last(weight), bias, *options)


def _are_images(input: Tensor, weight: Tensor) -> bool:
    """Whether these are images [B,C,H,W] of few channels in a CPU's memory, with all bits."""
    return (
        input.ndim == 4
        and 0 < input.shape[1] <= IMAGE_CHANNELS
        and len(input) > 0
        and input.device.type == "cpu"
        and input.dtype == weight.dtype
        and input.dtype in (torch.float32, torch.float64)
    )


def _max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: Any = False,
) -> Any:
    options = stride, padding, dilation, ceil_mode, return_indices
    halves = [pair(kernel_size), pair(stride or kernel_size)] == [(2, 2)] * 2
    plain = halves and pair(padding) == (0, 0) and pair(dilation) == (1, 1) and not return_indices
    recorded = torch.is_grad_enabled() and input.requires_grad
    if recorded or not plain or not _has_pairs_on_cpu(input):
        return F.max_pool2d(input, kernel_size, *options)
    # PyTorch's kernel also notes where each maximum was, which takes it four times as long.
    pairs = input.permute(0, 2, 3, 1).unflatten(1, (-1, 2))
    rows = torch.maximum(*pairs.unbind(2)).unflatten(2, (-1, 2))
    return torch.maximum(*rows.unbind(3)).permute(0, 3, 1, 2)


def _has_pairs_on_cpu(images: Tensor) -> bool:
    """Whether these are images [B,C,H,W], H and W even, in a CPU's memory and channels-last."""
    return (
        images.device.type == "cpu"
        and images.ndim == 4
        and images.shape[2] % 2 == images.shape[3] % 2 == 0 < images.numel()
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _channels_last(weight: Tensor) -> Tensor:
    # One operand in this format is enough for PyTorch to answer in it.
    return weight.to(memory_format=torch.channels_last)


_FASTER = {torch.conv2d: _conv2d, F.max_pool2d: _max_pool2d}


class FastCPU(TorchFunctionMode):
    """Inside this context, in this thread, `conv2d` and `max_pool2d` take the faster CPU paths.

    For modules that ignore memory formats; `fast_context` tells.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FASTER and not _is_transformed():
            func = _FASTER[func]
        return func(*args, **(kwargs or {}))


def _is_transformed() -> bool:
    """Whether something else decides what functions do: a function transform, autocast, export."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    )
