"""One module that takes the place of many: it is called with the tensors of any of them."""

import copy
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from targets.copies import named_tensors
from targets.structure import architecture
from targets.traits import Traits, traits

T = TypeVar("T")


class Skeleton:
    """A module without numbers of its own, since every call brings them all.

    A call swaps the module's tensors in place, and two threads must never share one: every thread
    has a copy.

    Args:
        module: as `without_numbers` makes it, in the mode in which it is to be called.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._own = threading.local()
        self._own.copy = _Copy(module)
        self._cache: dict[tuple[Any, ...], Any] = {}

    def __getstate__(self) -> dict[str, Any]:  # neither threads nor contexts can be copied
        return {"_module": self._module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_module"])

    @functools.cached_property
    def architecture(self) -> str:
        """What `targets.architecture` says of the module."""
        return architecture(self._module)

    @property
    def module(self) -> nn.Module:
        """The module, this thread's own copy of it."""
        return self._copy().module

    def call(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The module with these tensors, on images [B,C,H,W].

        As `functional_call`, which looks for every tensor anew and takes a sixth of a small
        network's forward pass.
        """
        own = self._copy()
        try:
            for holder, key, name, _ in own.entries:
                holder[key] = tensors[name]
            return own.module(images)
        finally:
            for holder, key, _, tensor in own.entries:
                holder[key] = tensor

    def traits(self, images: Tensor) -> Traits:
        """What the module does with images [B,C,H,W]."""
        return self._cached(traits, images)

    def vmappable(self, images: Tensor) -> bool:
        """Whether `vmap` can evaluate several networks, tried on [B,C,H,W] without numbers."""
        return self._cached(_vmappable, images)

    def _cached(self, function: Callable[[nn.Module, Tensor], T], images: Tensor) -> T:
        if torch.compiler.is_compiling():  # where nothing can be tried
            return function(self._module, images)
        key = function, images.shape[1:], images.dtype
        if key not in self._cache:
            self._cache[key] = function(self._module, images)
        return self._cache[key]

    def _copy(self) -> "_Copy":
        try:
            return self._own.copy
        except AttributeError:
            self._own.copy = _Copy(self._module)
            return self._own.copy


class _Copy:
    """One thread's copy of a module, and where each of its tensors stands, shared ones twice."""

    def __init__(self, module: nn.Module):
        self.module = copy.deepcopy(module)
        names = {id(tensor): name for name, tensor in named_tensors(self.module)}
        holders: list[dict[str, Any]] = []
        for part in self.module.modules():
            holders += part._parameters, part._buffers
        self.entries = [
            (holder, key, names[id(tensor)], tensor)
            for holder in holders
            for key, tensor in holder.items()
            if tensor is not None
        ]


def _vmappable(module: nn.Module, images: Tensor) -> bool:
    module = copy.deepcopy(module)
    tensors = {name: torch.stack([tensor, tensor]) for name, tensor in named_tensors(module)}
    empty = torch.empty(2, *images.shape, dtype=images.dtype, device="meta")
    try:
        with torch.no_grad():
            vmap(functools.partial(functional_call, module))(tensors, empty)
        return True
    except Exception:  # whatever a stranger's module raises
        return False
