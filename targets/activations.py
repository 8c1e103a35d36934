"""Activations by name.

To add one: a factory that takes the number of channels (or features) it will act on and returns a
fresh module, and one line in `ACTIVATIONS`. Parameters of the module are weights of the target
like any other: they are trained, generated and saved with it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from targets.layout import TargetError
from targets.names import nearest


class KWTA(nn.Module):
    """k winners take all (Xiao et al. 2020): of an image's N values the largest stay, others -> 0.

    Winners are chosen among all channels and places together. The function jumps where one value
    overtakes another, so its gradient says little of where the output goes.

    Args:
        share: of the N values, in (0, 1], that stay, rounded down but one at least.
    """

    def __init__(self, share: float = 0.2):
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]."""
        flat = values.flatten(1)
        winners = flat.topk(max(1, int(self.share * flat.shape[1])), sorted=False).values
        least = winners.amin(1).view(-1, *[1] * (values.ndim - 1))
        return torch.where(values >= least, values, 0)

    def extra_repr(self) -> str:
        """Told apart by their share."""
        return f"share={self.share}"


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "leaky_relu": lambda channels: nn.LeakyReLU(),
    "elu": lambda channels: nn.ELU(),
    "gelu": lambda channels: nn.GELU(),
    "swish": lambda channels: nn.SiLU(),
    "tanh": lambda channels: nn.Tanh(),
    "softplus": lambda channels: nn.Softplus(),
    "kwta": lambda channels: KWTA(),
}


def activation(name: str, channels: int) -> nn.Module:
    """A fresh activation module for `channels` channels (conv) or features (dense)."""
    if name not in ACTIVATIONS:
        raise TargetError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name](channels)
