"""Ways to move generated weights with a preference that were compared and not taken.

Each replaces the offsets of `ResidualGenerator`, or moves something else beside them. Importing
this registers them as generators.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hypergen.catalog import GENERATORS
from hypergen.models.generator import KNOTS, ResidualGenerator
from hypergen.models.latent import cdf, hat_basis
from scripts.generators import with_dense_head
from targets import WeightLayout

RANK = 4
"""Of the offsets of `LoRA`."""
WAYS: dict[str, dict[str, Any]] = {
    "offsets": {},
    "FiLM": {"generator": "film"},
    "rank 1": {"generator": "rank-1"},
    "LoRA": {"generator": "lora"},
    "nine knots": {"generator": "nine-knots"},
    "learned spread": {"generator": "spread"},
    "prior 0.25": {"prior_scale": 0.25},
    "prior 0.1": {"prior_scale": 0.1},
    "no prior": {"prior_scale": 0.0},
}
"""Settings of training by name. The first leave all as it is, which is offsets at five knots; the
last three keep samples less apart at every preference."""


class Rows(ResidualGenerator):
    """A residual generator whose weights know their filter and their input.

    Attributes:
        row, column: [D], each weight's, counted over all layers; a bias has a row of its own, and
            all biases share one column.
    """

    row: Tensor
    column: Tensor

    def __init__(self, layout: WeightLayout, *args: Any):
        super().__init__(layout, *args)
        rows, columns, first, second = [], [], 0, 1
        for slot in layout.slots:
            wide = len(slot.shape) > 1
            height, size = slot.shape[0], slot.stop - slot.start
            width = size // height
            rows.append(first + torch.arange(height).repeat_interleave(width))
            columns.append((second + torch.arange(width)).repeat(height) if wide else rows[-1] * 0)
            first, second = first + height, second + width * wide
        self.register_buffer("row", torch.cat(rows))
        self.register_buffer("column", torch.cat(columns))
        self.heights, self.widths = first, second

    def at_knots(self, *shape: int) -> nn.Parameter:
        """Zeros [K, *shape] to be trained, a value for each knot."""
        return nn.Parameter(torch.zeros(KNOTS, *shape))


class FiLM(Rows):
    """Base weights scaled and shifted, filter by filter (Perez et al. 2018)."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.offsets = self.at_knots(0)
        self.gains, self.shifts = self.at_knots(self.heights), self.at_knots(self.heights)

    def base_at(self, near: Tensor | None) -> Tensor:
        assert near is not None
        gains, shifts = (near @ self.gains)[:, self.row], (near @ self.shifts)[:, self.row]
        return self.base_weights * (1 + gains) + shifts


class Rank1(Rows):
    """Base weights times a factor of the filter and one of the input; biases are shifted.

    As the members of a BatchEnsemble (Wen et al. 2020).
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.offsets = self.at_knots(0)
        self.gains, self.inputs = self.at_knots(self.heights), self.at_knots(self.widths)
        self.shifts = self.at_knots(self.heights)

    def base_at(self, near: Tensor | None) -> Tensor:
        assert near is not None
        gains, inputs = (near @ self.gains)[:, self.row], (near @ self.inputs)[:, self.column]
        shifts = (near @ self.shifts)[:, self.row] * (self.column == 0)
        return self.base_weights * (1 + gains) * (1 + inputs) + shifts


class LoRA(Rows):
    """Offsets of low rank in each layer, and any in biases (Hu et al. 2022)."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.offsets = self.at_knots(0)
        self.left, self.shifts = self.at_knots(self.heights, RANK), self.at_knots(self.heights)
        self.right = nn.Parameter(torch.randn(KNOTS, self.widths, RANK) / RANK**0.5)

    def base_at(self, near: Tensor | None) -> Tensor:
        assert near is not None
        left, right = self.left[:, self.row], self.right[:, self.column]
        low_rank = (left * right).sum(-1) * self.scale * (self.column > 0)
        shifts = self.shifts[:, self.row] * (self.column == 0)
        return self.base_weights + near @ (low_rank + shifts)


class NineKnots(ResidualGenerator):
    """Offsets at nine quantiles instead of five: twice as dense, also near the ends."""

    knots = 9

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.offsets = nn.Parameter(torch.zeros(self.knots, len(self.scale)))

    def _hats(self, beta: Tensor) -> Tensor:
        return hat_basis(cdf(beta, self.beta_range), self.knots)


class Spread(Rows):
    """Offsets as today's, and a random prior times a factor of the filter and one of the input."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.filters, self.inputs = self.at_knots(self.heights), self.at_knots(self.widths)

    def prior_at(self, z: Tensor, near: Tensor | None) -> Tensor:
        assert near is not None
        filters, inputs = (near @ self.filters)[:, self.row], (near @ self.inputs)[:, self.column]
        return super().prior_at(z, near) * (1 + filters) * (1 + inputs)


GENERATORS.register("film")(with_dense_head(FiLM))
GENERATORS.register("rank-1")(with_dense_head(Rank1))
GENERATORS.register("lora")(with_dense_head(LoRA))
GENERATORS.register("nine-knots")(with_dense_head(NineKnots))
GENERATORS.register("spread")(with_dense_head(Spread))
