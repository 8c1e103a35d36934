"""Copies of modules with other tensors."""

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from targets.errors import TargetError


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer with its name, shared ones once."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def copy_with(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `module` that has `tensors` in the place of its parameters and buffers.

    `TargetError` for scripted modules, whose tensors no copy can do without.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise TargetError("a target cannot be scripted or traced: give the module it was made from")
    memo = {
        id(old): nn.Parameter(tensors[name]) if isinstance(old, nn.Parameter) else tensors[name]
        for name, old in named_tensors(module)
    }
    return copy.deepcopy(module, memo)


def without_numbers(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no numbers: 11 million weights are copied in no time."""
    with torch.inference_mode(False):
        empty = {name: torch.empty_like(t, device="meta") for name, t in named_tensors(module)}
        return copy_with(module, empty)
