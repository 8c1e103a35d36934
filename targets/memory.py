"""What networks hold of images for a gradient, and how to hold less: by computing it twice."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from targets.errors import told

Count = Callable[[nn.Module, Tensor], int]
"""A module and images [N,C,H,W] that it can take -> bytes."""
_COUNTED: dict[tuple[Any, ...], int] = {}


def counted(
    count: Count,
    architecture: str,
    module: nn.Module,
    images: Tensor,
    with_numbers: Callable[[], nn.Module],
) -> int:
    """The bytes of images [N,C,H,W], by shapes alone, once for an architecture.

    A module that needs numbers sees two images, and is taken to hold as much of each further one as
    of the second. `TargetError`: it fails on them.
    """
    key = count, architecture, images.shape, images.dtype
    if key not in _COUNTED:
        try:
            _COUNTED[key] = count(module, torch.empty_like(images, device="meta"))
        except Exception:  # whatever a stranger's module raises
            with told(images):
                some = (images[:number].detach() for number in (1, 2))
                one, two = (count(with_numbers(), each) for each in some)
                _COUNTED[key] = one + (two - one) * (len(images) - 1)
    return _COUNTED[key]


def bytes_kept(module: nn.Module, images: Tensor) -> int:
    """Bytes of all tensors that autograd saves while `module` sees the images."""
    storages: dict[int, torch.UntypedStorage] = {}  # several operations may keep the same

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.inference_mode(False), torch.enable_grad(), hooks:
        module(images.clone().requires_grad_())
    return sum(storage.nbytes() for storage in storages.values())


def bytes_live(module: nn.Module, images: Tensor) -> int:
    """Bytes of the tensors that exist at once, at most, until the images' gradient is known."""
    with torch.inference_mode(False), torch.enable_grad(), _Live() as live:
        points = images.clone().requires_grad_()
        logits = module(points)
        if isinstance(logits, Tensor) and logits.requires_grad:  # what else it may be, others tell
            torch.autograd.grad(logits.sum(), points, allow_unused=True)
    return live.most


class _Live(TorchDispatchMode):
    """Counts the bytes of what operations make inside this context, while it exists."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def in_parts(
    function: Callable[[Tensor], Tensor], images: Tensor, size: int, dim: int = 0
) -> Tensor:
    """Logits [...,B,K] of images [...,B,C,H,W], `size` of them at a time.

    For a gradient each part is computed once more and then forgotten, so that no more is kept than
    of one part. B is dimension `dim`; images must not influence each other, or be one part.
    """
    parts = images.split(size, dim)
    # Evaluation draws nothing at random, and PyTorch's state is shared by all threads.
    options = {"use_reentrant": False, "preserve_rng_state": False}
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(function, part, **options) for part in parts], dim)  # type: ignore
    return torch.cat([function(part) for part in parts], dim)
