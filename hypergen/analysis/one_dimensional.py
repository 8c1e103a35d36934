"""Networks of one number: where they bend, and how often they can.

Source: Bibi and Alfadly, "Understanding DNNs".
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypergen.analysis.jacobian import in_double
from targets import Population
from targets.breakpoints import follow
from targets.graph import Graph
from targets.piecewise_linear import tensors_of


def knots(module: nn.Module, low: float, high: float) -> Tensor:
    """All places between `low` and `high` where a network of one number bends, rising, [N].

    module: of images [B,1,1,1] -> [B,K], continuous and piecewise linear.

    Raises:
        TargetError: it is not.
    """
    population = in_double(Population.of([module]))
    ends = torch.tensor([low, high], dtype=torch.float64).view(2, 1, 1, 1)
    line = follow(Graph.of(population), tensors_of(population)[0], ends[0], ends[1])
    return low + (high - low) * line.bends


def knot_bound(widths: Sequence[int]) -> int:
    """The most knots of a network of one number with hidden layers of so many ReLUs.

    N <= sum_i m_i prod_{j>i} (m_j + 1), which is prod_i (m_i + 1) - 1: a layer of m units cuts
    each of its input's pieces into m + 1 at most.
    """
    bound = 0
    for width in widths:
        bound = bound * (width + 1) + width
    return bound
