"""What goes wrong with a target."""

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class TargetError(ValueError):
    """A target, an activation or a weight vector that cannot be: one line, for people."""


def image_shape(shape: Any) -> tuple[int, int, int] | None:
    """(C,H,W) in plain numbers; None for what is no shape of an image."""
    try:
        sizes = [operator.index(size) for size in shape]
    except TypeError:
        return None
    if len(sizes) != 3 or min(sizes) < 1 or any(isinstance(size, bool) for size in shape):
        return None
    return sizes[0], sizes[1], sizes[2]


def require_dense(images: Any) -> None:
    """Raises TargetError unless images are a tensor of a kind that is expanded and convolved."""
    if not isinstance(images, Tensor):
        raise TargetError(f"expected images as a tensor, got {type(images).__name__}")
    if images.layout != torch.strided:
        kind = str(images.layout).removeprefix("torch.")
        raise TargetError(f"expected images as a dense tensor, got a {kind} one")


def require_initialized(
    module: nn.Module, what: str, error: type[ValueError] = TargetError
) -> None:
    """Raises the error unless `nn.Module.__init__` has run in the module and in all its parts."""
    for part in module.modules():
        if not hasattr(part, "_modules"):
            raise error(f"{what}: `{type(part).__name__}` must call super().__init__()")


@contextlib.contextmanager
def told(images: Tensor) -> Iterator[None]:
    """Tells in one line what a module raises on images [B,C,H,W]: they may be of a wrong size."""
    try:
        yield
    except (TargetError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "DefaultCPUAllocator" in str(error):  # on a CPU it has no class of its own
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TargetError(
            f"the networks fail on images {list(images.shape[1:])} of {images.dtype}: "
            f"{reason:.200}; are they made for such images?"
        ) from error
