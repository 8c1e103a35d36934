"""Activations by name.

To add one: a factory that takes the number of channels (or features) it will act on and returns a
fresh module, and one line in `ACTIVATIONS`. Parameters of the module are weights of the target
like any other: they are trained, generated and saved with it.
"""

from collections.abc import Callable

from torch import nn

from targets.layout import TargetError
from targets.names import nearest

ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "leaky_relu": lambda channels: nn.LeakyReLU(),
    "elu": lambda channels: nn.ELU(),
    "gelu": lambda channels: nn.GELU(),
    "swish": lambda channels: nn.SiLU(),
    "tanh": lambda channels: nn.Tanh(),
    "softplus": lambda channels: nn.Softplus(),
}


def activation(name: str, channels: int) -> nn.Module:
    """A fresh activation module for `channels` channels (conv) or features (dense)."""
    if name not in ACTIVATIONS:
        raise TargetError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name](channels)
