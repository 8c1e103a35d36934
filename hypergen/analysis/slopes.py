"""How steep activations are: everywhere, and in an interval."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from targets.graph import Call
from targets.intervals import ENDS, KINKED, Interval, slope_below
from targets.kaf import KAF

SLOPES: dict[str, float] = {
    **dict.fromkeys(("celu", "clamp", "hardtanh", "logsigmoid", "relu6", "softplus"), 1.0),
    **dict.fromkeys(("softsign", "tanh"), 1.0),
    "sigmoid": 1 / 4,
    "hardsigmoid": 0.16667,
    "silu": 1.09984,
    "gelu": 1.129,
    "mish": 1.0885,
    "hardswish": 1.5,
    "selu": 1.7581,
}
"""Greatest slopes of functions of one number, rounded up."""
SMOOTH = {"sigmoid", "tanh", "softplus", "elu"}
"""Their slope rises up to 0 and then falls or stays, so its least in an interval is at an end."""
GRID = 20_001
"""Points at which the slope of a KAF is computed."""
REACH = 87.0
"""Exponent from which on a Gaussian counts as 0, as in the KAF itself."""
LARGEST_THIRD_DERIVATIVE = 4.0
"""Of exp(-t^2), rounded up from 3.91."""


def greatest_slope(call: Call) -> float | None:
    """By how much an activation of one number changes with it, at most; None for all else."""
    if call.name == "prelu":
        return max(1.0, float(call.args[1].abs().max()))
    if call.name in KINKED:
        return max(1.0, abs(slope_below(call)))
    if call.name == "elu":
        return max(1.0, abs(call.kwargs.get("alpha", 1.0)))
    return SLOPES.get(call.name)


def slopes_within(call: Call) -> tuple[Tensor, Tensor] | None:
    """The least and the greatest slope of an activation where its input lies in an interval.

    None for what is no activation that rises with its input or has one kink.
    """
    values = call.args[0]
    if not isinstance(values, Interval):
        return None
    if call.name in KINKED:
        above, below = torch.ones_like(values.lower), slope_below(call)
        # At 0 itself PyTorch's derivative is that below.
        least = torch.where(values.lower <= 0, below, above)
        greatest = torch.where(values.upper > 0, above, below)
        return torch.minimum(least, greatest), torch.maximum(least, greatest)
    if call.name in SMOOTH:
        peak = torch.zeros_like(values.lower).clamp(values.lower, values.upper)
        first, last, middle = (_slope(call, at) for at in (values.lower, values.upper, peak))
        return torch.minimum(first, last), torch.maximum(torch.maximum(first, last), middle)
    slope = greatest_slope(call)
    if slope is None or call.name not in ENDS:
        return None
    return torch.zeros_like(values.lower), torch.full_like(values.lower, slope)


def kaf_slope(layer: KAF, tensors: Mapping[str, Tensor]) -> float:
    """The greatest slope of the functions of a KAF's channels, bounded from above.

    Between points of a grid the slope is at most what it is there and what its curvature adds,
    about a thousandth. tensors: of the layer, by their names there.
    """
    alpha, dictionary = tensors["alpha"], tensors["dictionary"]
    if layer.free:
        gamma = float(tensors["log_gamma"].exp())
    else:
        gamma = 1 / (layer.width * layer.spacing**2)
    reach = math.sqrt(REACH / gamma)
    first, last = float(dictionary.min()) - reach, float(dictionary.max()) + reach
    grid = torch.linspace(first, last, GRID, dtype=alpha.dtype, device=alpha.device)
    away = grid - dictionary[:, None]
    slopes = alpha @ (-2 * gamma * away * (-gamma * away.square()).exp())
    step = (last - first) / (GRID - 1)
    third = LARGEST_THIRD_DERIVATIVE * gamma**1.5 * alpha.abs().sum(1)
    return float((slopes.abs().amax(1) + step**2 / 8 * third).max())


def _slope(call: Call, at: Tensor) -> Tensor:
    """The derivative of an activation at numbers of any shape."""
    assert call.function is not None
    at = at.detach().requires_grad_()
    with torch.enable_grad():
        answer = call.function(at, *call.args[1:], **call.kwargs)
        return torch.autograd.grad(answer.sum(), at)[0]
