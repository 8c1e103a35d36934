"""The computation of a target as a graph of PyTorch's functions, each with its layer.

Layers are looked into, so the graph consists of functions such as `F.linear` and `F.relu` however
the target spells them, and none works in place. Modules whose course depends on numbers cannot be
looked into and stay whole.
"""

import builtins
import contextlib
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Node, map_arg
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from targets.copies import named_tensors, without_numbers
from targets.errors import TargetError
from targets.fast_cpu import fast_context
from targets.population import Population

_SPACES: tuple[Any, ...] = torch, Tensor, F, operator, builtins
"""Where the functions are that a graph may consist of."""
_NAMES: dict[Any, str] = {
    function: name for name, function in vars(F).items() if callable(function)
}
"""What functions are called there; some have another name of their own."""
_VIEWS = """
    detach dropout expand flatten getitem movedim narrow permute reshape select squeeze t transpose
    unflatten unsqueeze view
"""
"""Functions that may answer with the memory they are given."""
_GRAPHS: dict[str, "Graph"] = {}

Values = dict[Node, Any]
"""What every node of a graph is worth."""


@dataclass(frozen=True)
class Call:
    """An operation on what depends on the images.

    name: what PyTorch calls it, such as relu, in whatever way it is spelled; the class of a module
    that is not looked into, and of a function that is not PyTorch's; function: what computes it
    out of place; None for one that is not PyTorch's.
    """

    node: Node
    name: str
    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Graph:
    """What a target computes, node by node.

    Attributes:
        nodes: in order; the first stands for the images, the last for the output.
        module: a copy of the target, without numbers.

    Raises:
        TargetError: the target's course depends on numbers, or it changes something in place that
            it uses again.
    """

    def __init__(self, module: nn.Module):
        self.module = without_numbers(module)
        self._root = _Root(self.module)
        self._names = {id(tensor): name for name, tensor in named_tensors(self.module)}
        self._parts = dict(self.module.named_modules())
        try:
            self.nodes = tuple(_Tracer().trace(self._root).nodes)
        except Exception as error:  # whatever a stranger's module raises
            reason = str(error).partition("\n")[0]
            raise TargetError(f"cannot follow {type(module).__name__}: {reason}") from error
        self._functions = {node: _function(node, self._root) for node in self.nodes}
        self._fast: dict[Any, contextlib.AbstractContextManager[Any]] = {}
        self._require_untouched()

    @classmethod
    def of(cls, population: Population) -> "Graph":
        """The graph of the networks of a population, made once for each architecture.

        Modules of no other thread may be called while it is made, for torch.fx then follows them.
        """
        key = population.architecture
        if key not in _GRAPHS:
            _GRAPHS[key] = cls(population[0])
        return _GRAPHS[key]

    def place(self, node: Node) -> str:
        """A node's operation and layer in words, such as "SiLU in layer features.3"."""
        layer, name = self.layer(node), self._functions[node][0]
        part = self._parts.get(layer)
        if part is not None and type(part).__module__.startswith("torch.nn"):
            name = type(part).__name__
        return f"{name} in layer {layer}" if layer else name

    def layer(self, node: Node) -> str:
        """The name of the module whose forward pass a node is part of; "" for the target itself."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        return path.partition(".")[2]  # without the root

    def evaluate(
        self,
        tensors: Mapping[str, Tensor],
        images: Any,
        call: Callable[[Call], Any],
        depends: Callable[[Any], bool],
    ) -> Values:
        """What every node is worth.

        Args:
            tensors: the parameters and buffers of the target by name.
            images: what stands for the images.
            call: computes an operation one of whose arguments depends on the images.
            depends: whether a value depends on the images.
        """
        values: Values = {}
        for node in self.nodes:
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            name, function = self._functions[node]
            if node.op == "placeholder":
                values[node] = images
            elif node.op == "get_attr":
                values[node] = self._tensor(node, tensors)
            elif node.op == "output":
                values[node] = args[0]
            elif any(depends(values[each]) for each in node.all_input_nodes):
                kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
                values[node] = call(Call(node, name, function, args, kwargs))
            elif function is None:
                raise TargetError(f"cannot follow {self.place(node)}")
            else:
                values[node] = function(*args, **kwargs)
        return values

    def fast_context(self, images: Tensor) -> contextlib.AbstractContextManager[Any]:
        """As `targets.fast_context` of the target, looked up once for images [B,C,H,W]."""
        key = images.shape[1:], images.dtype
        if key not in self._fast:
            self._fast[key] = fast_context(self.module, images)
        return self._fast[key]

    def _tensor(self, node: Node, tensors: Mapping[str, Tensor]) -> Tensor:
        """The tensor of a node: one of `tensors`, or a constant of the target's own."""
        value: Any = reduce(getattr, str(node.target).split("."), self._root)
        if id(value) in self._names:
            return tensors[self._names[id(value)]]
        if value.is_meta:
            raise TargetError(f"cannot follow how {self.place(node)} computes its weights")
        return value

    def _require_untouched(self) -> None:
        """`TargetError` where something is changed in place and then used again."""
        order = {node: index for index, node in enumerate(self.nodes)}
        owners: dict[Node, Node] = {}  # the node whose memory each has
        for node in self.nodes:
            changes = _changes(node)
            shares = changes or self._functions[node][0] in _VIEWS.split()
            first = node.all_input_nodes[:1] if shares else []
            owners[node] = owners[first[0]] if first else node
            alike = [each for each in owners if owners[each] is owners[node] and each is not node]
            used_again = any(order[user] > order[node] for each in alike for user in each.users)
            if changes and used_again:
                raise TargetError(f"cannot follow {self.place(node)}, which works in place")


class _Root(nn.Module):
    """Calls the target as others do: what is traced itself is called without its hooks."""

    def __init__(self, target: nn.Module):
        super().__init__()
        self.target = target

    def forward(self, images: Tensor) -> Tensor:
        return self.target(images)


class _Tracer(fx.Tracer):
    """Looks into every layer that it can look into."""

    proxy_buffer_attributes = True

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(m, _BatchNorm):  # which looks at the number of dimensions
            forward = partial(_batch_norm, m)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, _BatchNorm):
            return False
        if any(m.children()):
            return super().is_leaf_module(m, module_qualified_name)
        options = inspect.signature(m.forward).parameters.values()
        usual = {each.name: each.default for each in options if each.default is not each.empty}
        try:
            fx.Tracer().trace(m, usual)
            return False
        except Exception:  # whatever a stranger's module raises
            return True


def _batch_norm(norm: _BatchNorm, values: Tensor) -> Tensor:
    by_batch = norm.training or norm.running_mean is None
    mean, var = (None, None) if by_batch else (norm.running_mean, norm.running_var)
    return F.batch_norm(values, mean, var, norm.weight, norm.bias, by_batch, 0.0, norm.eps)


def _changes(node: Node) -> bool:
    """Whether a node changes its first argument in place."""
    name = _spelled(node)
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or _is_assignment(node) or bool(node.kwargs.get("inplace"))


def _is_assignment(node: Node) -> bool:
    """Whether a node is an operator such as +=."""
    name = _spelled(node)
    return name[:1] == "i" and hasattr(operator, name[1:]) and _is_in(operator, node)


def _is_in(space: Any, node: Node) -> bool:
    """Whether a node's function is one of a module or class."""
    return getattr(space, _spelled(node), None) is node.target


def _spelled(node: Node) -> str:
    """The name of a node's function as the target spells it."""
    if node.op in ("call_function", "call_method"):
        return _NAMES.get(node.target) or getattr(node.target, "__name__", str(node.target))
    return ""


def _function(node: Node, root: nn.Module) -> tuple[str, Callable[..., Any] | None]:
    """The name of a node's operation and what computes it out of place, if that is PyTorch's."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__, None
    name = _spelled(node)
    spaces = [space for space in _SPACES if _is_in(space, node)]
    if node.op == "call_method":
        spaces = [Tensor]
    if not spaces or "out" in node.kwargs:
        return name, None
    if _changes(node) and not node.kwargs.get("inplace"):
        name = name[1:] if _is_assignment(node) else name.removesuffix("_")
    return name, getattr(spaces[0], name, None)
