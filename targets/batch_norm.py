"""Statistics of batch-norm layers, measured on images."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norm_layers(module: nn.Module) -> dict[str, _BatchNorm]:
    """The batch-norm layers that keep running statistics, by their names."""
    layers = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    return {name: layer for name, layer in layers.items() if layer.running_mean is not None}


@torch.no_grad()
def measure_statistics(
    module: nn.Module,
    buffers: Mapping[str, Tensor],
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
) -> None:
    """Measures the batch-norm statistics of `module` anew: averages over all batches.

    Args:
        module: the target; it is changed, and serves no other purpose afterwards.
        buffers: its buffers by name, of one network or several, brought up to date in place.
        forward: evaluates `module` with these buffers on images [B,C,H,W].
        batches: images [B,C,H,W] each.
    """
    for name, norm in norm_layers(module).items():
        for own, _ in norm.named_buffers():
            buffers[f"{name}.{own}".removeprefix(".")].zero_()
        norm.train()
        norm.register_forward_pre_hook(_PlainAverage())
    for batch in batches:
        forward(batch.clone())  # which some targets change in place


class _PlainAverage:
    """Gives every call of a layer the same share in its running statistics.

    As no momentum does, which wants a count of the batches in a buffer, and reads it off a GPU.
    """

    def __init__(self):
        self.calls = 0

    def __call__(self, norm: Any, args: Any) -> None:
        self.calls += 1
        norm.momentum = 1 / self.calls
