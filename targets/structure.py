"""What a module is, told by its structure and not by how it prints."""

import enum
import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SETTINGS = (torch.dtype, torch.device, torch.memory_format, enum.Enum)
_INTERNAL = {*vars(nn.Module()), "training", "metadata"}
"""Attributes that PyTorch keeps in every module, of which only the forward hooks count; and what is
noted of where a module comes from."""


def architecture(module: nn.Module) -> str:
    """A digest of everything about a module but its weights: 64 hexadecimal digits.

    It changes with each submodule's name, class and plain attributes (numbers, strings, containers
    of these, functions, tensors that are no parameters), the names and shapes of parameters and
    buffers, which of them are tied, and forward hooks. The mode, training or evaluation, the device
    and an attribute `metadata` do not count.
    """
    words = _Words(module)
    lines = []
    for name, part in module.named_modules(remove_duplicate=False):
        lines.append(f"{name}: {words.known[id(part)]} {_name(type(part))}")
        plain = {key: value for key, value in vars(part).items() if key not in _INTERNAL}
        hooks = [*part._forward_pre_hooks.values(), None, *part._forward_hooks.values()]
        lines.append(words.of((plain, hooks)))
    for name, tensor in _all_tensors(module):
        lines.append(f"{name}: {words.known[id(tensor)]} {tuple(tensor.shape)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


class _Words:
    """Describes values in words that are the same for equal values in any process."""

    def __init__(self, module: nn.Module):
        self.known: dict[int, str] = {}  # what has a name in the module: the first, where tied
        for name, part in (*module.named_modules(), *_all_tensors(module)):
            self.known.setdefault(id(part), f"<{name}>")

    def of(self, value: Any) -> str:
        """The value's type and all that it consists of."""
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, _SETTINGS):
            return str(value)
        if id(value) in self.known:
            return self.known[id(value)]
        self.known[id(value)] = "<itself>"  # where it is a part of its own parts
        try:
            return f"{_name(type(value))} {self._content(value)}"
        finally:
            del self.known[id(value)]

    def _content(self, value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self.of, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self.of(k)}: {self.of(v)}' for k, v in value.items())}}}"
        if isinstance(value, Tensor | numpy.ndarray | numpy.generic):
            return _numbers(value)
        if isinstance(value, set | frozenset):
            return f"[{', '.join(sorted(map(self.of, value)))}]"
        if isinstance(value, functools.partial):
            return self.of((value.func, value.args, value.keywords))
        if isinstance(value, types.MethodType):
            return self.of((value.__func__, value.__self__))
        if isinstance(value, types.FunctionType):
            return f"{_name(value)} {self.of(_code(value))}"
        if callable(value) and hasattr(value, "__qualname__"):  # a class, or written in C
            return _name(value)
        return self.of(
            dict(value) if isinstance(value, Mapping) else getattr(value, "__dict__", None)
        )


def _numbers(value: Any) -> str:
    """A tensor or an array: its type, its shape and a digest of its numbers."""
    if isinstance(value, Tensor):
        if value.is_meta:
            return f"{value.dtype} {tuple(value.shape)}"
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        raw = numpy.ascontiguousarray(value).tobytes()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw).hexdigest()}"


def _code(function: types.FunctionType) -> tuple[Any, ...]:
    """What tells functions of one name apart, as all lambdas of a class are."""
    code, cells = function.__code__, function.__closure__ or ()
    constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    # Of what it closes over only constants: a hook may collect what it sees in a list.
    plain = (*_PLAIN, types.FunctionType)
    closed = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, plain)]
    return code.co_code, constants, code.co_names, function.__defaults__, closed


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
