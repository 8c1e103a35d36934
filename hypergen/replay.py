"""The last measured networks: what the value network is fitted to."""

from typing import Any

import torch
from torch import Tensor


class Replay:
    """The last pairs of evidence [...] and what was measured [M], oldest first, on one device."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.evidence: Tensor | None = None
        self.measured: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.measured is None else len(self.measured)

    def add(self, evidence: Tensor, measured: Tensor) -> None:
        """Appends pairs [P,...], [P,M]; the oldest beyond the capacity are let go."""
        evidence, measured = evidence[-self.capacity :], measured[-self.capacity :]
        too_many = max(0, len(self) + len(measured) - self.capacity)
        if self.evidence is not None and self.measured is not None:
            self.evidence = torch.cat([self.evidence[too_many:], evidence])
            self.measured = torch.cat([self.measured[too_many:], measured])
        else:
            self.evidence, self.measured = evidence.clone(), measured.clone()

    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """The newest pairs, at most `count`."""
        assert self.evidence is not None and self.measured is not None
        return self.evidence[-count:], self.measured[-count:]

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch of at most `count` different pairs."""
        assert self.evidence is not None and self.measured is not None
        chosen = torch.randperm(len(self), generator=rng)[:count].to(self.measured.device)
        return self.evidence[chosen], self.measured[chosen]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"evidence": self.evidence, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """From a checkpoint, onto `device`."""
        self.evidence, self.measured = (
            None if state[name] is None else state[name].to(device)
            for name in ("evidence", "measured")
        )
