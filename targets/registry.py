"""Targets by name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from targets.errors import TargetError, image_shape, require_initialized
from targets.fbf_cnn import FBFCNN
from targets.imagenet import ImageNetTarget
from targets.lenet import LeNet5, SmallLeNet5
from targets.mlp import MLP
from targets.outputs import Output, select_output
from targets.resnet import CIFARResNet, PreActResNet18
from targets.vgg import VGG, LightCNN

DEFAULT_ACTIVATION = "relu"
Make = Callable[..., nn.Module]


@dataclass(frozen=True)
class Target:
    """How a network is made, and which part of its answer the logits are.

    Args:
        make: a class or factory that takes any of (activation, num_classes, input_shape) by name,
            or nothing.
        output: see `select_output`; None for a network that answers with logits alone.
    """

    make: Make
    output: Output | None = None


NORMALIZED: dict[str, Make] = {
    "vgg": VGG,
    "light-cnn": LightCNN,
    "resnet20": partial(CIFARResNet, depth=20),
    "resnet56": partial(CIFARResNet, depth=56),
    "preactresnet18": PreActResNet18,
}
"""With batch norm, and as `vgg-group` and `vgg-none` with group norm and with none."""

TARGETS: dict[str, Make | Target] = {
    "small-lenet5": SmallLeNet5,
    "lenet5": LeNet5,
    "fbf-cnn": FBFCNN,
    "mlp": MLP,
    "wide-mlp": partial(MLP, hidden=(2048, 2048, 2048)),
    **NORMALIZED,
    **{
        f"{name}-{norm}": partial(make, norm=norm)
        for name, make in NORMALIZED.items()
        for norm in ("group", "none")
    },
    "alexnet": partial(ImageNetTarget, name="alexnet"),
    "resnet18": partial(ImageNetTarget, name="resnet18"),
}
"""Every value is what `Target.make` is, or a `Target`."""

_CHECKED: set[tuple[Any, ...]] = set()


def build(
    name: str,
    activation: str = DEFAULT_ACTIVATION,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    pretrained: bool = False,
) -> nn.Module:
    """A freshly initialised target: images [B,C,H,W] in [0,1] -> logits [B,num_classes].

    A target gets those of the arguments that it takes by name. The first of its kind is tried on an
    image of zeros.

    Args:
        name: one of `TARGETS`.
        activation: as `make_activation` knows it; a target that takes none has its own.
        num_classes: at least 2.
        input_shape: (C, H, W).
        pretrained: with torchvision's weights for ImageNet, downloaded, up to the last layer;
            alexnet and resnet18 have them.

    Raises:
        TargetError: an unknown name or activation, an activation for a target that takes none,
            fewer than 2 classes, images that the target cannot take, a network that does not answer
            with logits, or pretrained weights that there are not or that cannot be downloaded.
    """
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}; known: {', '.join(TARGETS)}")
    if not hasattr(num_classes, "__index__") or num_classes < 2:
        raise TargetError(f"a classifier needs at least 2 classes, got {num_classes!r:.60}")
    shape = image_shape(input_shape)
    if shape is None:
        raise TargetError(f"expected an input shape (C, H, W), got {input_shape!r:.60}")
    entry = TARGETS[name]
    target = entry if isinstance(entry, Target) else Target(entry)
    offered = {"activation": activation, "num_classes": num_classes, "input_shape": shape}
    module = _made(name, target, offered)
    key = name, target, activation, num_classes, shape
    if key not in _CHECKED or any(map(is_lazy, module.parameters())):
        _check(name, module, num_classes, shape)
        if not any(parameter.is_meta for parameter in module.parameters()):  # without numbers
            _CHECKED.add(key)
    if pretrained:
        if not isinstance(module, ImageNetTarget):
            raise TargetError(f"{name} has no pretrained weights; alexnet and resnet18 have")
        module.load_pretrained()
    return module


def _made(name: str, target: Target, offered: Mapping[str, Any]) -> nn.Module:
    """What the target makes of those of the offered arguments that it takes by name."""
    taken = _taken(name, target.make, offered)
    if "activation" not in taken and offered["activation"] != DEFAULT_ACTIVATION:
        raise TargetError(
            f"{name} takes no activation, got {offered['activation']!r}: leave the activation out"
        )
    try:
        module = target.make(**{key: offered[key] for key in taken})
    except TargetError:
        raise
    except Exception as error:  # a window that no longer fits, or whatever a stranger's class does
        raise TargetError(
            f"{name} cannot take images of shape {offered['input_shape']}: {_cause(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TargetError(f"{name} makes a {type(module).__name__}, expected an nn.Module")
    require_initialized(module, name)
    return module if target.output is None else select_output(module, target.output)


def _taken(name: str, make: Make, offered: Mapping[str, Any]) -> list[str]:
    """Which of the offered arguments a target takes by name."""
    fixed = make.keywords if isinstance(make, partial) else {}
    taken, lacking = [], []
    for parameter in inspect.signature(make).parameters.values():
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if by_name and parameter.name in offered and parameter.name not in fixed:
            taken.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            lacking.append(parameter.name)
    if lacking:
        raise TargetError(
            f"{name} needs {', '.join(lacking)}: a target takes any of {', '.join(offered)} by "
            "name, or nothing"
        )
    return taken


def _check(
    name: str, module: nn.Module, num_classes: int, input_shape: tuple[int, int, int]
) -> None:
    """Raises a `TargetError` unless the module makes logits [1,num_classes] of an image of zeros.

    The module is left as it is, but that layers that learn their sizes from it have these then.
    """
    modes = [(part, part.training) for part in module.modules()]
    lazy = any(map(is_lazy, (*module.parameters(), *module.buffers())))
    buffers = [] if lazy else [(buffer, buffer.clone()) for buffer in module.buffers()]
    like = next((t for t in module.parameters() if t.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answer = module.eval()(image)
    except Exception as error:  # whatever a stranger's module raises
        raise TargetError(
            f"{name} fails on images of shape {input_shape}: {_cause(error)}"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    if not isinstance(answer, Tensor):
        raise TargetError(
            f"{name} answers with a {type(answer).__name__}, not with logits: register it with "
            "output=, the index or key of its logits, or a function that takes them out"
        )
    if answer.shape != (1, num_classes):
        raise TargetError(
            f"{name} answers one image with shape {list(answer.shape)}, expected logits "
            f"[1, {num_classes}]"
        )


def _cause(error: Exception) -> str:
    """The first line of an error, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
