"""By how much a network can change its logits while the image stays near one: a bound in L2.

Sources: Weng et al. 2018, "Towards fast computation of certified robustness for ReLU networks"
(Fast-Lip: intervals say which units can be active, and these in which the Jacobian lies); Zhang et
al. 2019, "RecurJac".
"""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.fx.node import Node

from hypergen.analysis.slopes import slopes_within
from targets.graph import Call
from targets.intervals import AFFINE, PRODUCTS, Propagation, is_interval, replaced
from targets.relaxation import affine_back, is_plain_pool, pooled_parts

Matrix = tuple[Tensor, Tensor]
"""Centre and radius [K,B,...] of the derivatives of K logits by a node: an interval each."""


def local_bounds(propagation: Propagation, constants: Mapping[Node, Tensor]) -> Tensor:
    """[B], the Lipschitz constant of the logits on the interval around each image, from above.

    The derivatives of the logits by every node lie in intervals, found from the last layer back. At
    each node that all paths lead through, the norm of these times the constant of the node itself
    is a bound, and the least counts. What derivatives cannot be followed through ends the way back.

    Args:
        propagation: the intervals of all nodes around B images.
        constants: [B] by node, its own Lipschitz constants there as a function of the image.
    """
    nodes = propagation.graph.nodes
    (last,) = nodes[-1].all_input_nodes
    logits = propagation.logits.lower
    ones = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    start = ones[:, None].expand(-1, len(logits), -1)
    waiting: dict[Node, Matrix] = {last: (start, torch.zeros_like(start))}
    best = torch.full_like(logits[:, 0], torch.inf)
    for node in reversed(nodes):
        if node not in waiting:
            continue
        own = waiting.pop(node)
        if not waiting:  # all paths lead through it
            best = torch.minimum(best, _norms(own) * constants[node])
        before = _back(propagation, node, own)
        if before is None:
            break
        for each, (centre, radius) in before.items():
            known = waiting.get(each)
            waiting[each] = (
                (centre, radius) if known is None else (known[0] + centre, known[1] + radius)
            )
    return best


def _norms(matrix: Matrix) -> Tensor:
    """[B], the most that the spectral norm of a matrix in these intervals can be."""
    centre, radius = (each.flatten(2).transpose(0, 1) for each in matrix)
    return torch.linalg.matrix_norm(centre, 2) + torch.linalg.matrix_norm(radius, 2)


def _back(propagation: Propagation, node: Node, own: Matrix) -> dict[Node, Matrix] | None:
    """Derivatives by what a node is computed from; None where they cannot be followed."""
    call = propagation.calls.get(node)
    if call is None:
        return None
    if call.name in AFFINE:
        centre, _ = affine_back(propagation.values, call, own[0])
        radius, _ = affine_back(propagation.values, _without_signs(call), own[1])
        return {each: (centre[each], radius[each]) for each in centre}
    if is_plain_pool(call):
        return {node.all_input_nodes[0]: _through_pool(propagation, call, own)}
    slopes = slopes_within(call)
    return None if slopes is None else {node.all_input_nodes[0]: _times(own, *slopes)}


def _without_signs(call: Call) -> Call:
    """The operation by whose transpose radii are carried: all of its coefficients made positive."""
    if call.name == "sub":
        return replace(call, name="add", function=operator.add)
    if call.name == "neg":
        return replace(call, name="clone", function=torch.clone)
    if call.name not in PRODUCTS:
        return call  # means and moves, whose coefficients are positive
    return replace(
        call, args=replaced(call.args, lambda each: each if is_interval(each) else _size(each))
    )


def _size(value: object) -> object:
    return abs(value) if isinstance(value, Tensor | float | int) else value


def _times(own: Matrix, least: Tensor, greatest: Tensor) -> Matrix:
    """Intervals times intervals of slopes, as wide as need be."""
    centre, radius = own
    middle, half = (greatest + least) / 2, (greatest - least) / 2
    return centre * middle, radius * (middle.abs() + half) + centre.abs() * half


def _through_pool(propagation: Propagation, call: Call, own: Matrix) -> Matrix:
    """Through max-pooling: a value gets all of its window's derivative, some or nothing.

    All if it is the greatest for certain, nothing if another one is.
    """
    (before,) = call.node.all_input_nodes
    interval, shape = propagation.values[before], propagation.values[call.node].lower.shape

    def parts(values: Tensor) -> Tensor:
        return torch.stack(pooled_parts(call, values, shape))

    can_win = parts(interval.upper) >= parts(interval.lower).amax(0)
    must_win = can_win & (can_win.sum(0) == 1)
    centre, radius = _times(
        (own[0][:, None], own[1][:, None]), must_win.to(own[0]), can_win.to(own[0])
    )
    _, pull = cast(tuple[Tensor, Any], vjp(parts, torch.zeros_like(interval.lower)))
    return vmap(pull)(centre)[0], vmap(pull)(radius)[0]
