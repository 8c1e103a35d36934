"""Activations by name.

To add one: an entry of `ACTIVATIONS` that makes a fresh module. It is a class or a factory that
takes nothing, or one that takes the number of channels (or features) that the module will act on:
its first parameter is required, or named as in `CHANNEL_NAMES`. Parameters of the module are
weights of the target like any other: they are trained, generated and saved with it.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from targets.errors import TargetError, require_initialized
from targets.kaf import KAF
from targets.kwta import KWTA


def _described(text: str, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What makes an activation, with the text that a list of activations shows."""
    make.__doc__ = text
    return make


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": _described("max(x, 0)", lambda channels: nn.ReLU()),
    "leaky_relu": _described("x, and 0.01 x below 0", lambda channels: nn.LeakyReLU()),
    "prelu": _described("x, and a learned slope times x below 0", partial(nn.PReLU)),
    "elu": _described("x, and exp(x) - 1 below 0", lambda channels: nn.ELU()),
    "gelu": _described("x times the normal distribution at x", lambda channels: nn.GELU()),
    "swish": _described("x sigmoid(x), also called SiLU", lambda channels: nn.SiLU()),
    "tanh": _described("tanh(x)", lambda channels: nn.Tanh()),
    "softplus": _described("log(1 + exp(x)), a smooth ReLU", lambda channels: nn.Softplus()),
    "kwta-0.2": _described("keeps the greatest 20 % of a layer", lambda channels: KWTA(0.2)),
    "kaf": _described("learned sum of Gaussians, from random weights", partial(KAF)),
    "kaf-relu": _described("KAF that starts as ReLU", partial(KAF, start=F.relu)),
    "kaf-elu": _described("KAF that starts as ELU", partial(KAF, start=F.elu)),
    "kaf-swish": _described("KAF that starts as swish", partial(KAF, start=F.silu)),
    "kaf-tanh": _described("KAF that starts as tanh", partial(KAF, start=torch.tanh)),
    "kaf-identity": _described("KAF that starts as x", partial(KAF, start=lambda x: x)),
    "kaf-free": _described("KAF whose Gaussians move and widen too", partial(KAF, free=True)),
    "kaf-authors": _described(
        "KAF as in the code of Scardapane et al.", partial(KAF, convention="authors")
    ),
}
"""What is known by a name of its own. `kwta-<share>` takes any other share, as in kwta-0.1, and
each KAF any other size of its dictionary, as in kaf-elu-40."""

CHANNEL_NAMES = ("channels", "num_channels", "num_features", "num_parameters")
"""What a parameter that wants the number of channels is called when it has a default."""

MAX_POINTS = 1000
"""The largest dictionary of a KAF by name."""


def unsized(name: str) -> str:
    """What a KAF is called whatever its size: kaf-elu-40 -> kaf-elu; other names as they are."""
    kaf, _, size = name.rpartition("-")
    sized = kaf.startswith("kaf") and kaf in ACTIVATIONS and size.isdecimal()
    return kaf if sized else name


def activation_factory(name: str) -> Callable[[int], nn.Module]:
    """What makes activations of that name: a function from the number of channels to a module.

    Raises:
        TargetError: an unknown name (the known ones are listed), k-WTA with a share that is not a
            number in (0, 1], or a KAF of fewer than 2 points or more than 1,000.
    """
    if name in ACTIVATIONS:
        make = ACTIVATIONS[name]
        return make if _takes_channels(make) else lambda channels: make()
    if (kaf := unsized(name)) != name:
        size = name.removeprefix(f"{kaf}-")
        if len(size) > 4 or not 2 <= int(size) <= MAX_POINTS:
            raise TargetError(f"activation {name!r}: a dictionary has 2 to {MAX_POINTS} points")
        return partial(ACTIVATIONS[kaf], size=int(size))
    family, _, share = name.partition("-")
    if family != "kwta":
        raise TargetError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    try:
        KWTA(float(share))
    except ValueError:
        raise TargetError(
            f"activation {name!r}: expected kwta-<share>, a share in (0, 1] as in kwta-0.2"
        ) from None
    return lambda channels: KWTA(float(share))


def make_activation(name: str, channels: int) -> nn.Module:
    """A fresh activation module for `channels` channels (conv) or features (dense).

    Raises:
        TargetError: as from `activation_factory`, or an entry that makes something else.
    """
    module = activation_factory(name)(channels)
    if not isinstance(module, nn.Module):
        raise TargetError(
            f"activation {name!r} makes a {type(module).__name__}, expected an nn.Module"
        )
    require_initialized(module, f"activation {name!r}")
    return module


def _takes_channels(make: Callable[..., nn.Module]) -> bool:
    """Whether `make` takes the number of channels, by its first positional parameter."""
    parameters = inspect.signature(make).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional:
        return False
    return positional[0].default is inspect.Parameter.empty or positional[0].name in CHANNEL_NAMES
