"""Randomness that belongs to a network, not to the population it is packed in."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Draws:
    """Random numbers for P networks, each from its own generator.

    Draw for the full batch and gather afterwards (`Survivors.pack`): then what an image is dealt
    depends only on its network's seed and on its place in the batch, never on which other images
    or networks are in the work.

    Args:
        seeds: one seed a network, length P.
        device: where the numbers are drawn and live.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device, self.seeds = torch.device(device), [int(seed) for seed in seeds]
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in self.seeds]

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [P, *shape]."""
        drawn = torch.empty(len(self._generators), *shape, device=self.device)
        for own, generator in zip(drawn, self._generators, strict=True):
            own.uniform_(generator=generator)
        return drawn

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, [P, *shape]."""
        drawn = torch.empty(len(self._generators), *shape, device=self.device)
        for own, generator in zip(drawn, self._generators, strict=True):
            own.normal_(generator=generator)
        return drawn
