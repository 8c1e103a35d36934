"""Derivatives of logits by images."""

import torch
from torch import Tensor

from hypergen.runtime.precision import full_precision
from targets import Population


def in_double(population: Population) -> Population:
    """The same networks in 64-bit numbers."""
    buffers = {
        name: buffer.double() if buffer.is_floating_point() else buffer
        for name, buffer in population.buffers.items()
    }
    return population.with_tensors(population.theta.double(), buffers)


@full_precision()
def jacobians(population: Population, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [P,B,K] and their derivatives [P,B,K,C,H,W] at images [P,B,C,H,W]."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = population(images)
        rows = [
            torch.autograd.grad(logits[..., label].sum(), images, retain_graph=True)[0]
            for label in range(logits.shape[-1])
        ]
    return logits.detach(), torch.stack(rows, dim=2)
