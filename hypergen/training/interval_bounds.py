"""Training by interval bounds: the loss of the worst logits that any attack could cause.

Source: Gowal et al. 2018, "On the effectiveness of interval bound propagation for training
verifiably robust models".
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
from targets import Population
from targets.bounds import margin_bounds

BOUNDS_WEIGHT = 0.5
"""Of the worst logits' loss in the end; what is left to 1 is that of the clean ones."""


@dataclass(frozen=True)
class IntervalBounds:
    """What stands at one moment of the training where other methods have an attack.

    threat: in linf; weight: of the worst logits inside it; steps: of an attack, which there is not.
    """

    threat: attacks.Threat
    weight: float
    steps = 0

    def size_on(self, images: Tensor) -> Tensor:
        """[2], radius and weight as numbers beside these images."""
        return images.new_tensor([self.threat.epsilon, self.weight])


class IntervalLoss:
    """The loss of clean and of worst logits, of a network whose weights go on changing.

    Batch norm has the statistics of the clean images in both.
    """

    def __init__(self, module: nn.Module):
        self.population = Population.of([module]).normalized_by_batch()

    def __call__(
        self, module: nn.Module, images: Tensor, labels: Tensor, size: Tensor, smoothing: float
    ) -> Tensor:
        """A scalar for images [B,C,H,W] and labels [B].

        size: see `IntervalBounds.size_on`; smoothing: of labels. `TargetError`: the network cannot
        be bounded.
        """
        radius, weight = size
        theta = self.population.layout.flatten(dict(module.named_parameters()))
        buffers = {name: buffer[None] for name, buffer in module.named_buffers()}
        population = self.population.with_tensors(theta[None], buffers)
        worst = margin_bounds(population, images, labels, radius)[0]
        clean, bounded = (
            F.cross_entropy(logits, labels, label_smoothing=smoothing)
            for logits in (module(images), worst)
        )
        return torch.lerp(clean, bounded, weight)
