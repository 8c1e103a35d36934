"""Any attack of torchattacks by its name (Kim 2020), judged by the same rules as the others."""

import contextlib
import inspect
import io
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import (
    Attack,
    AttackError,
    Draws,
    Model,
    Survivors,
    evaluate,
    misclassified,
)
from attacks.error import require_norm, unknown
from attacks.threat import NORMS, TOLERANCE

PREFIX = "torchattacks:"
PACKED = "FGSM", "BIM", "MIFGSM", "NIFGSM"
"""Of these, which draw nothing and treat each image for itself, P networks make one batch."""
ALONE = "CW", "EADL1", "EADEN"
"""These stop, or step, by a sum over the batch: an image at a time, or they would depend on it."""
REFUSED = {
    "AutoAttack": "it runs at a tenth of AutoAttack's steps; use --suite standard",
    "MultiAttack": "it is made of others; name these",
    "LGV": "it trains networks of its own",
}
DEFECTS = {
    "CW": "it cannot move pixels that are exactly 0 or 1; cw can",
    "MIFGSM": "it divides by a gradient that may be 0; mi-fgsm does not",
}
"""As read and run at version 3.5.1; said once a call."""
_ONE_AT_A_TIME = threading.Lock()
"""What it draws and prints goes through the process's one random state and one output."""
NAMES = {"linf": "Linf", "l2": "L2"}
"""Of the attacks that take a norm; in L1, which FAB claims to know, it fails."""


@dataclass(frozen=True)
class Torchattacks(Attack):
    """The attack that torchattacks calls `attack`, with its own defaults.

    Its step length is scaled with epsilon. Some of its attacks keep to no epsilon: a point outside
    the threat does not count. Every network has a seed of its own; the global generators are left
    alone. Unlike with other attacks, parameters that require gradients may receive some.

    Args:
        attack: a class of torchattacks, "MIFGSM" say.

    Raises:
        AttackError: a name torchattacks does not know, an attack that misleads, or (when called)
            an error of the attack itself.
    """

    attack: str
    roams = NORMS

    def __post_init__(self) -> None:
        if self.attack in REFUSED:
            raise AttackError(f"{self.name} is refused: {REFUSED[self.attack]}")
        known = [name for name in _library().__all__ if name not in (*REFUSED, "VANILA")]
        if self.attack not in known:
            raise unknown("attack of torchattacks", self.attack, known)
        taken = self._taken()
        if "norm" in taken:
            require_norm(self.name, self.threat.norm, list(NAMES))
        elif {"eps", "max_epsilon"} & taken.keys():
            own = "l2" if self.attack.endswith("L2") else "linf"
            require_norm(self.name, self.threat.norm, [own])

    @property
    def name(self) -> str:
        return PREFIX + self.attack

    @property
    def singly(self) -> bool:
        return self.attack not in PACKED

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        if self.attack in DEFECTS:
            warnings.warn(f"{self.name}: {DEFECTS[self.attack]}", stacklevel=2)
        # On all images, not on those left, so that what one is dealt does not depend on the others.
        images, labels = survivors.all_images, survivors.all_labels
        classes = survivors.all_logits.shape[-1]
        if self.attack in PACKED:
            shape = images.shape
            one = _Flat(lambda x: model(x.view(shape)).flatten(0, 1))
            points = self._attacked(one, images.flatten(0, 1), labels.flatten(), classes, 0)
            points = points.view(shape)
        else:
            count = len(images)
            points = torch.stack(
                [
                    self._attacked(_Flat(partial(_alone, model, index, count)), x, y, classes, seed)
                    for index, (x, y, seed) in enumerate(
                        zip(images, labels, draws.seeds, strict=True)
                    )
                ]
            )
        points = torch.where(points.isfinite(), points, images).clamp(0, 1)
        # What rounding alone has put outside the threat is brought back; what else is, stays there.
        inside = self.threat.project(points, images)
        rounded = (inside - points).abs().amax((-3, -2, -1), keepdim=True) <= TOLERANCE
        points = survivors.pack(torch.where(rounded, inside, points))
        broken = misclassified(evaluate(model, points), survivors.labels)
        survivors.drop(points, broken & self.threat.contains(points, survivors.images))

    def _attacked(
        self, module: nn.Module, images: Tensor, labels: Tensor, classes: int, seed: int
    ) -> Tensor:
        """What torchattacks makes of images [B,C,H,W] of one network."""
        size = 1 if self.attack in ALONE else len(images)
        devices = [images.device] if images.device.type == "cuda" else []
        with (
            _ONE_AT_A_TIME,
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            torch.manual_seed(seed)
            state = np.random.get_state()
            np.random.seed(seed % 2**32)
            attack = getattr(_library(), self.attack)(module, **self._options(seed, classes))
            attack.set_device(images.device)
            try:
                parts = [
                    attack(x.clone(), y)
                    for x, y in zip(images.split(size), labels.split(size), strict=True)
                ]
            except (RuntimeError, ValueError, IndexError, AttributeError) as error:
                raise AttackError(f"{self.name} failed: {error}") from error
            finally:
                np.random.set_state(state)
        return torch.cat(parts).detach().to(images)

    def _taken(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(getattr(_library(), self.attack)).parameters

    def _options(self, seed: int, classes: int) -> dict[str, Any]:
        """Epsilon, norm, step length, seed and number of classes, of those that it takes."""
        taken = self._taken()
        options: dict[str, Any] = {}
        for name in {"eps", "max_epsilon"} & taken.keys():
            options[name] = self.threat.epsilon
        if "seed" in taken:
            options["seed"] = seed
        if "n_classes" in taken:  # its targets are one fewer
            options["n_classes"] = min(taken["n_classes"].default, classes)
        if "norm" in taken:
            options["norm"] = NAMES[self.threat.norm]
        if {"eps", "alpha"} <= taken.keys():
            options["alpha"] = taken["alpha"].default * self.threat.epsilon / taken["eps"].default
        return options


class _Flat(nn.Module):
    """A function of images [N,C,H,W] as the module that torchattacks wants."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = function
        self.device_of = nn.Parameter(torch.zeros(()))  # it asks the first parameter

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def _alone(model: Model, index: int, count: int, images: Tensor) -> Tensor:
    """Logits [N,K] of one network of P."""
    return model(images.expand(count, *images.shape).contiguous())[index]


def _library() -> Any:
    """torchattacks, imported only where it is used: it is slow to load."""
    import torchattacks

    return torchattacks
