"""Faster convolutions and pooling on the CPU, inside `with fast_context(module, images):`.

Some of PyTorch's CPU kernels are slow where small convolutional nets need them most: convolutions
of few channels, above all their gradients (targets/fast_conv.py), and max-pooling, above all of
tensors that are not channels-last. The convolution that sees the images therefore answers in
channels-last memory, and the layers after it follow, as do their gradients. Same numbers to float
rounding, up to several times the speed; on other devices, for other shapes and for modules to which
memory formats would show (targets/traits.py) nothing changes.

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

from targets.fast_conv import conv2d
from targets.traits import Traits, pair, traits

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What glibc's malloc.h calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, another system
    ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 2**30)
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**25)  # the most it takes


def fast_context(module: nn.Module, images: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The context in which `module` is fastest on CPU images of the shape and type of [B,C,H,W].

    It may be entered again and again, in several threads, while the module's layers stay in their
    modes; gradients may be taken outside. What the module computes is the same, inside and outside.
    """
    return fast_where_safe(traits(module, images))


def fast_where_safe(found: Traits) -> contextlib.AbstractContextManager[Any]:
    """As `fast_context`, for a module of these traits."""
    return FastCPU() if found.ignores_memory_format else contextlib.nullcontext()


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
        _is_channels_last(images)
        and images.shape[2] % 2 == images.shape[3] % 2 == 0 < images.numel()
    )


def _is_channels_last(images: Tensor) -> bool:
    """Whether these are images [B,C,H,W] in a CPU's memory, channels-last."""
    return (
        images.device.type == "cpu"
        and images.ndim == 4
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _flatten(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    recorded = torch.is_grad_enabled() and not input.is_leaf
    if recorded and _is_channels_last(input) and not input.is_contiguous():
        # What is flattened is no longer channels-last, nor is its gradient: the layer before would
        # read that in one format and its own output in the other, which takes it far longer.
        input.register_hook(_as_channels_last)
    return torch.flatten(input, *args, **kwargs)


def _as_channels_last(gradient: Tensor | None) -> Tensor | None:
    if gradient is None or _is_transformed():  # none is known, or many at once
        return gradient
    return gradient.contiguous(memory_format=torch.channels_last)


_FASTER = {
    torch.conv2d: conv2d,
    F.max_pool2d: _max_pool2d,
    torch.flatten: _flatten,
    Tensor.flatten: _flatten,
}


class FastCPU(TorchFunctionMode):
    """Inside this context, in this thread, what `_FASTER` names takes the faster CPU paths.

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
