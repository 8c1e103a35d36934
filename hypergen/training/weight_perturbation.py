"""Adversarial weight perturbation: the gradient is taken where weights are worse."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


@contextlib.contextmanager
@torch.no_grad()
def moved_up(module: nn.Module, gradients: Sequence[Tensor], share: float) -> Iterator[None]:
    """Inside, each layer's weights lie `share` of their norm further up their gradient.

    Biases and what else is a vector stay where they are, as in Wu, Xia, Wang 2020, "Adversarial
    weight perturbation helps robust generalization".
    """
    pairs = [
        (weights, gradient)
        for weights, gradient in zip(module.parameters(), gradients, strict=True)
        if weights.ndim > 1
    ]
    before = [weights.clone() for weights, _ in pairs]
    for weights, gradient in pairs:
        tiny = torch.finfo(gradient.dtype).tiny
        weights += gradient * (share * weights.norm() / gradient.norm().clamp_min(tiny))
    try:
        yield
    finally:
        for (weights, _), old in zip(pairs, before, strict=True):
            weights.copy_(old)
