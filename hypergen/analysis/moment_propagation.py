"""Mean and covariance of what a network answers to Gaussian images, layer by layer.

Every layer is given Gaussian numbers of the mean and covariance that the one before has left, and
its own are computed in closed form. Units of a dense layer keep their whole covariance; all others
count as independent of one another, those of convolutions and pooling in particular. So with one
hidden dense layer of ReLUs the moments of the logits are exact, and else an approximation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hypergen.analysis import rectified_gaussian
from targets import TargetError
from targets.graph import Call, Graph
from targets.intervals import SIZES, by_place, replaced
from targets.pooling import MaxPooling
from targets.traits import pair

MAX_UNITS = 1024
"""Of a dense layer whose covariance is computed."""
FAR_BELOW = -1e30
"""What pads a maximum: it is never the greatest."""


@dataclass(frozen=True)
class Moments:
    """Of Gaussian numbers.

    mean, variance: [B,...]. covariance: [B,H,H] of numbers [B,H], whose diagonal the variance is;
    None where they count as independent.
    """

    mean: Tensor
    variance: Tensor
    covariance: Tensor | None = None


def propagate(
    graph: Graph, tensors: Mapping[str, Tensor], images: Tensor, std: float
) -> tuple[Tensor, Tensor]:
    """Mean [B,K] and covariance [B,K,K] of the logits of images with independent Gaussian noise.

    Args:
        graph: of the target.
        tensors: its parameters and buffers by name, in 64-bit numbers.
        images: [B,C,H,W], in 64-bit numbers.
        std: of the noise.

    Raises:
        TargetError: an operation without a formula, by its name and layer.
    """

    def call(call: Call) -> Any:
        rule = _RULES.get(call.name)
        found = None if rule is None or call.function is None else rule(by_place(call))
        if found is None:
            raise TargetError(
                f"moments are known of ReLU networks, not of {graph.place(call.node)}"
            )
        return found

    noisy = Moments(images, torch.full_like(images, std**2))
    logits = graph.evaluate(tensors, noisy, call, _is_random)[graph.nodes[-1]]
    if not _is_random(logits) or logits.mean.ndim != 2:
        raise TargetError("the answer is not one tensor of logits [B,K]")
    return logits.mean, _covariance(logits)


def _is_random(value: Any) -> bool:
    return isinstance(value, Moments)


def _covariance(values: Moments) -> Tensor:
    return torch.diag_embed(values.variance) if values.covariance is None else values.covariance


def _of(call: Call, part: Callable[[Moments], Tensor]) -> Any:
    """The operation on a part of what is random."""
    assert call.function is not None
    args = replaced(call.args, lambda each: part(each) if _is_random(each) else each)
    return call.function(*args, **call.kwargs)


# Rules: from a call to its moments, or None where there is no formula.


def _size(call: Call) -> Any:
    return _of(call, lambda each: each.mean)


def _rearranged(call: Call) -> Moments | None:
    """What only changes where numbers stand, or in evaluation nothing."""
    if call.kwargs.get("training") is True:
        return None
    mean, variance = _of(call, lambda each: each.mean), _of(call, lambda each: each.variance)
    values = call.args[0]
    same = mean.shape == values.mean.shape and call.name not in ("getitem", "permute", "transpose")
    return Moments(mean, variance, values.covariance if same else None)


def _padded(call: Call) -> Moments:
    mode = [*call.args[2:3], call.kwargs.get("mode", "constant")][0]
    variance = F.pad(call.args[0].variance, call.args[1], mode)
    return Moments(_of(call, lambda each: each.mean), variance)


def _product(call: Call) -> Moments | None:
    """With weights."""
    assert call.function is not None
    first, second, *rest = call.args
    if _is_random(first) == _is_random(second) or call.name in _DIVISIONS and _is_random(second):
        return None
    factors = [each.variance if _is_random(each) else each**2 for each in (first, second)]
    options = [None, *rest[1:]] if rest else []  # without bias
    variance = call.function(*factors, *options, **call.kwargs)
    return Moments(_of(call, lambda each: each.mean), variance)


def _linear(call: Call) -> Moments | None:
    values, weight, *_ = call.args
    found = _product(call)
    if found is None or found.mean.ndim != 2 or len(weight) > MAX_UNITS:
        return found
    if values.covariance is None:
        covariance = (weight * values.variance[:, None]) @ weight.T
    else:
        covariance = weight @ values.covariance @ weight.T
    return replace(found, variance=covariance.diagonal(dim1=1, dim2=2), covariance=covariance)


def _sum(call: Call) -> Moments | None:
    if call.kwargs:  # a factor
        return None
    mean = _of(call, lambda each: each.mean)
    random = [each for each in call.args if _is_random(each)]
    variances = torch.broadcast_tensors(*(each.variance for each in random))
    same = len(random) == 1 and random[0].mean.shape == mean.shape
    covariance = random[0].covariance if same else None
    return Moments(mean, torch.stack(variances).sum(0).expand(mean.shape), covariance)


def _normalised(call: Call) -> Moments | None:
    """Batch norm by fixed statistics."""
    if call.kwargs["training"]:
        return None
    assert call.function is not None
    values, mean, var, weight, _ = call.args
    factor = (var + call.kwargs["eps"]).rsqrt()
    factor = factor if weight is None else factor * weight
    variance = values.variance * factor.view(1, -1, *[1] * (values.mean.ndim - 2)) ** 2
    full = values.covariance
    covariance = None if full is None else full * factor[:, None] * factor
    return Moments(_of(call, lambda each: each.mean), variance, covariance)


def _averaged(call: Call) -> Moments | None:
    """The mean of numbers that count as independent."""
    mean, variance = _of(call, lambda each: each.mean), _of(call, lambda each: each.variance)
    sizes = call.args[0].mean.shape
    if call.name == "avg_pool2d":
        options = {**dict(zip(("kernel_size", "stride", "padding"), call.args[1:], strict=False))}
        options |= call.kwargs
        if pair(options.get("padding", 0)) != (0, 0) or options.get("ceil_mode"):
            return None
        return Moments(mean, variance / prod(pair(options["kernel_size"])))
    if call.name != "mean" and any(n % m for n, m in zip(sizes, mean.shape, strict=True)):
        return None
    return Moments(mean, variance * mean.numel() / sizes.numel())


def _relu(call: Call) -> Moments:
    values = call.args[0]
    if values.covariance is None:
        return Moments(*rectified_gaussian.maximum(values.mean, values.variance, 0.0, 0.0))
    pairs = zip(values.mean.cpu().numpy(), values.covariance.cpu().numpy(), strict=True)
    means, covariances = zip(*(rectified_gaussian.relu(*each) for each in pairs), strict=True)
    mean = torch.from_numpy(np.stack(means)).to(values.mean)
    covariance = torch.from_numpy(np.stack(covariances)).to(values.mean)
    return Moments(mean, covariance.diagonal(dim1=1, dim2=2), covariance)


def _greatest(call: Call) -> Moments | None:
    """Max-pooling of numbers that count as independent: pair by pair, as Clark does."""
    values = call.args[0]
    pooling = MaxPooling.of(call)
    if pooling.ceil_mode or pooling.return_indices or values.mean.ndim != 4:
        return None
    kernel, (high, wide) = pooling.kernel, pooling.padding
    window = {"kernel_size": kernel, "stride": pooling.stride, "dilation": pooling.dilation}
    margins = (wide, wide, high, high)
    parts = [F.pad(values.mean, margins, value=FAR_BELOW), F.pad(values.variance, margins)]
    shape = _of(call, lambda each: each.mean).shape
    mean, variance = (
        F.unfold(part, **window).view(*shape[:2], prod(kernel), *shape[2:]).unbind(2)
        for part in parts
    )
    found = mean[0], variance[0]
    for each in zip(mean[1:], variance[1:], strict=True):
        found = rectified_gaussian.maximum(*found, *each)
    return Moments(*found)


_REARRANGING = """
    alpha_dropout clone contiguous dropout dropout1d dropout2d dropout3d feature_alpha_dropout
    flatten getitem permute ravel reshape squeeze transpose unsqueeze view
"""
_DIVISIONS = "div", "truediv"
_RULES: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(SIZES, _size),
    **dict.fromkeys(_REARRANGING.split(), _rearranged),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "matmul", "mul", *_DIVISIONS), _product),
    **dict.fromkeys(("adaptive_avg_pool2d", "avg_pool2d", "mean"), _averaged),
    **dict.fromkeys(("add", "sub"), _sum),
    "batch_norm": _normalised,
    "linear": _linear,
    "max_pool2d": _greatest,
    "pad": _padded,
    "relu": _relu,
}
"""By what PyTorch calls an operation."""
