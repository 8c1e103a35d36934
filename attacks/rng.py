"""Randomness that belongs to a network, not to the population it is packed in."""

from collections.abc import Sequence

import torch
from torch import Tensor


class PerNetworkRNG:
    """Random numbers for P networks, each from its own generator, always float32.

    Draw for the full batch and gather afterwards (`ActiveSet.pack`): then the numbers that an image
    gets depend only on its network's seed and on its position in the batch, never on which other
    images are active nor on which other networks are attacked with it.

    Args:
        seeds: one seed a network, length P.
        device: where the numbers are drawn and live.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device, self.seeds = torch.device(device), [int(seed) for seed in seeds]
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in self.seeds]

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), `[P, *shape]`."""
        numbers = self._empty(shape)
        for row, generator in zip(numbers, self._generators, strict=True):
            row.uniform_(generator=generator)
        return numbers

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, `[P, *shape]`."""
        numbers = self._empty(shape)
        for row, generator in zip(numbers, self._generators, strict=True):
            row.normal_(generator=generator)
        return numbers

    def _empty(self, shape: Sequence[int]) -> Tensor:
        size = len(self._generators), *shape
        return torch.empty(size, device=self.device, dtype=torch.float32)
