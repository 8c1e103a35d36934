"""Activations by name.

To add one: a factory that takes the number of channels (or features) it will act on and returns a
fresh module, and one line in `ACTIVATIONS`. Parameters of the module are weights of the target
like any other: they are trained, generated and saved with it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from targets.kaf import KAF
from targets.kwta import KWTA
from targets.layout import TargetError
from targets.names import nearest

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "leaky_relu": lambda channels: nn.LeakyReLU(),
    "prelu": nn.PReLU,
    "elu": lambda channels: nn.ELU(),
    "gelu": lambda channels: nn.GELU(),
    "swish": lambda channels: nn.SiLU(),
    "tanh": lambda channels: nn.Tanh(),
    "softplus": lambda channels: nn.Softplus(),
    "kwta-0.2": lambda channels: KWTA(0.2),
    "kaf": KAF,
    "kaf-relu": partial(KAF, start=F.relu),
    "kaf-elu": partial(KAF, start=F.elu),
    "kaf-swish": partial(KAF, start=F.silu),
    "kaf-tanh": partial(KAF, start=torch.tanh),
    "kaf-identity": partial(KAF, start=lambda x: x),
    "kaf-free": partial(KAF, free=True),
    "kaf-authors": partial(KAF, convention="authors"),
}
"""What is known by a name of its own. `kwta-<share>` takes any other share, as in kwta-0.1, and
each KAF any other size of its dictionary, as in kaf-elu-40."""


MOST_POINTS = 1000
"""Of the dictionary of a KAF by name."""


def unsized(name: str) -> str:
    """What a KAF is called whatever its size: kaf-elu-40 -> kaf-elu; other names as they are."""
    kaf, _, size = name.rpartition("-")
    sized = kaf.startswith("kaf") and kaf in ACTIVATIONS and size.isdecimal()
    return kaf if sized else name


def activation_factory(name: str) -> Callable[[int], nn.Module]:
    """What makes activations of that name: a function from the number of channels to a module.

    Raises:
        TargetError: an unknown name (the nearest known one is named), k-WTA with a share that is
            not a number in (0, 1], or a KAF of fewer than 2 points or more than 1,000.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if (kaf := unsized(name)) != name:
        size = name.removeprefix(f"{kaf}-")
        if len(size) > 4 or not 2 <= int(size) <= MOST_POINTS:
            raise TargetError(f"activation {name!r}: a dictionary has 2 to {MOST_POINTS} points")
        return partial(ACTIVATIONS[kaf], size=int(size))
    family, _, share = name.partition("-")
    if family != "kwta":
        raise TargetError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    try:
        KWTA(float(share))
    except ValueError:
        raise TargetError(
            f"activation {name!r}: expected kwta-<share>, a share in (0, 1] as in kwta-0.2"
        ) from None
    return lambda channels: KWTA(float(share))


def activation(name: str, channels: int) -> nn.Module:
    """A fresh activation module for `channels` channels (conv) or features (dense).

    `TargetError` as from `activation_factory`.
    """
    return activation_factory(name)(channels)
