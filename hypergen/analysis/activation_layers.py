"""The activation layers of a network, however it spells them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import Node
from torch.nn.modules import activation

from targets import TargetError
from targets.graph import Call, Graph
from targets.intervals import AFFINE, PRODUCTS, SIZES
from targets.kaf import KAF

FLAT = 0.01
"""Where an activation's derivative is smaller than this, hardly anything passes."""
_FUNCTIONS = {name.lower() for name in activation.__all__}
"""PyTorch's activations, spelled without "_"."""
_WEIGHTED = PRODUCTS - {"mul", "div", "truediv"}
"""What makes a module more than an activation."""


@dataclass(frozen=True)
class ActivationLayer:
    """What an activation layer is given and what it answers, [N,...] each.

    module: whose part it is.
    """

    inputs: Tensor
    outputs: Tensor
    module: nn.Module

    def constant(self) -> Tensor:
        """Which units answer all N images alike, bool [units]: channels, or neurons of [N,F]."""
        alike = (self.outputs == self.outputs[0]).all(0)
        return alike.flatten(1).all(1) if alike.ndim > 1 else alike

    def saturated(self) -> Tensor:
        """Where the derivative is near 0, bool [N,...]; of a KAF, outside its dictionary.

        Outputs must have been computed with gradients to the inputs.
        """
        if isinstance(self.module, KAF):
            return self.module.outside(self.inputs)
        (slope,) = torch.autograd.grad(self.outputs.sum(), self.inputs, retain_graph=True)
        return slope.abs() < FLAT


def find_activations(
    graph: Graph, network: nn.Module, images: Tensor
) -> dict[str, ActivationLayer]:
    """The activation layers of a network by name, in order, as it sees images [N,C,H,W].

    These are PyTorch's activation functions, called by modules or without, and modules of others'
    making, such as a KAF, that make of a tensor one of the same shape, not by affine operations
    alone and without weighted sums. A function without a module of its own has a name like relu_1.

    graph: of the network's architecture.
    `TargetError`: the network calls what is not PyTorch's.
    """
    found: dict[str, ActivationLayer] = {}
    values, names = _computed(graph, network, images)
    for nodes in _candidates(graph, network, names):
        inputs = {each for node in nodes for each in node.all_input_nodes if each in names}
        before = [node for node in inputs.difference(nodes) if isinstance(values[node], Tensor)]
        after = [node for node in nodes if not set(node.users) <= set(nodes)]
        if len(before) != 1 or len(after) != 1:
            continue
        given, answered = values[before[0]], values[after[0]]
        if isinstance(answered, Tensor) and given.shape == answered.shape:
            layer = graph.layer(after[0])
            module = network.get_submodule(layer)
            own_name = not any(module.children()) and layer not in found
            name = layer if layer and own_name else after[0].name
            found[name] = ActivationLayer(given, answered, module)
    return found


def _computed(
    graph: Graph, network: nn.Module, images: Tensor
) -> tuple[dict[Node, Any], dict[Node, str]]:
    """What every node is worth, and the names of operations on what depends on the images."""
    names = {graph.nodes[0]: "images"}

    def compute(call: Call) -> Any:
        function = call.function
        if call.node.op == "call_module":
            function = network.get_submodule(graph.layer(call.node))
        if function is None:
            raise TargetError(f"cannot follow {graph.place(call.node)}")
        if any(node in names for node in call.node.all_input_nodes):
            names[call.node] = call.name
        return function(*call.args, **call.kwargs)

    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return graph.evaluate(tensors, images, compute, lambda value: True), names


def _candidates(graph: Graph, network: nn.Module, names: dict[Node, str]) -> Iterator[list[Node]]:
    """The nodes that may be an activation layer together."""

    def home(node: Node) -> Node | str:
        """The module of another's making, which counts as a whole; else the node itself."""
        layer = graph.layer(node)
        module = network.get_submodule(layer)
        shipped = type(module).__module__.startswith("torch.nn.")
        return node if shipped or not layer or any(module.children()) else layer

    for whole, group in groupby(names, home):
        nodes = list(group)
        inside = {names[node] for node in nodes}
        if isinstance(whole, str) and not inside & _WEIGHTED:
            if not inside <= AFFINE | SIZES:
                yield nodes
        else:
            yield from ([node] for node in nodes if names[node].replace("_", "") in _FUNCTIONS)
