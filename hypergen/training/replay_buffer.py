"""The last measured networks: what the value network is fitted to."""

from typing import Any

import torch
from torch import Tensor


class ReplayBuffer:
    """The last pairs of features [...] and what was measured [M], oldest first, on one device.

    Measured is NaN where nothing was measured.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.features: Tensor | None = None
        self.measured: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.measured is None else len(self.measured)

    def add(self, features: Tensor, measured: Tensor) -> None:
        """Appends pairs [P,...], [P,M]; the oldest beyond the capacity are let go."""
        features, measured = features[-self.capacity :], measured[-self.capacity :].float()
        too_many = max(0, len(self) + len(measured) - self.capacity)
        if self.features is not None and self.measured is not None:
            self.features = torch.cat([self.features[too_many:], features])
            self.measured = torch.cat([self.measured[too_many:], measured])
        else:
            self.features, self.measured = features.clone(), measured.clone()

    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """The newest pairs, at most `count`."""
        assert self.features is not None and self.measured is not None
        return self.features[-count:], self.measured[-count:]

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch of at most `count` different pairs."""
        assert self.features is not None and self.measured is not None
        chosen = torch.randperm(len(self), generator=rng)[:count].to(self.measured.device)
        return self.features[chosen], self.measured[chosen]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"features": self.features, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """From a checkpoint, onto `device`."""
        self.features, self.measured = (
            None if state[name] is None else state[name].to(device, copy=True)
            for name in ("features", "measured")
        )
