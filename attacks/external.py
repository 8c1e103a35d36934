"""Any attack of torchattacks by its name (Kim 2020), evaluated by the same rules as the others."""

import contextlib
import inspect
import io
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import (
    ActiveSet,
    Attack,
    AttackError,
    Model,
    PerNetworkRNG,
    evaluate,
    misclassified,
)
from attacks.errors import require_known
from attacks.options import require_norm
from attacks.threat import NORMS, TOLERANCE

PREFIX = "torchattacks:"
BATCHED = "FGSM", "BIM", "MIFGSM", "NIFGSM"
"""Of these, which draw nothing and treat each image for itself, P networks make one batch."""
SINGLE_IMAGE = "CW", "EADL1", "EADEN"
"""These stop, or step, by a sum over the batch: one image a call, or results would depend on it."""
REFUSED = {
    "AutoAttack": "it runs at a tenth of AutoAttack's steps; use standard",
    "MultiAttack": "it is made of others; name these",
    "LGV": "it trains networks of its own",
}
DEFECTS = {
    "CW": "it cannot move pixels that are exactly 0 or 1; cw can",
    "MIFGSM": "it divides by a gradient that may be 0; mi-fgsm does not",
}
"""As read and run at version 3.5.1; shown once a call."""
_LOCK = threading.Lock()
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
    unconstrained_norms = NORMS

    def __post_init__(self) -> None:
        if isinstance(self.attack, str) and self.attack in REFUSED:
            raise AttackError(f"{self.name} is refused: {REFUSED[self.attack]}")
        known = [name for name in _library().__all__ if name not in (*REFUSED, "VANILA")]
        require_known("attack of torchattacks", self.attack, known)
        parameters = self._parameters()
        if "norm" in parameters:
            require_norm(self.name, self.threat.norm, list(NAMES))
        elif {"eps", "max_epsilon"} & parameters.keys():
            own = "l2" if self.attack.endswith("L2") else "linf"
            require_norm(self.name, self.threat.norm, [own])

    @property
    def name(self) -> str:
        return PREFIX + self.attack

    @property
    def one_at_a_time(self) -> bool:
        return self.attack not in BATCHED

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        if self.attack in DEFECTS:
            warnings.warn(f"{self.name}: {DEFECTS[self.attack]}", stacklevel=2)
        points = self._points(model, active_set, rng)
        images = active_set.all_images
        points = torch.where(points.isfinite(), points, images).clamp(0, 1)
        # What rounding alone has put outside the threat is brought back; what else is, stays there.
        inside = self.threat.project(points, images)
        rounded = (inside - points).abs().amax((-3, -2, -1), keepdim=True) <= TOLERANCE
        points = active_set.pack(torch.where(rounded, inside, points))
        broken = misclassified(evaluate(model, points), active_set.labels)
        inside = self.threat.contains(points, active_set.images)
        active_set.mark_adversarial(points, broken & inside)

    def _points(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> Tensor:
        """What torchattacks makes of the whole batch, [P,B,C,H,W].

        Not of the active images alone, or the numbers that one gets would depend on the others.
        """
        images, labels = active_set.all_images, active_set.all_labels
        classes = active_set.all_logits.shape[-1]
        if self.attack in BATCHED:
            one = _FunctionModule(lambda x: model(x.view_as(images)).flatten(0, 1))
            points = self._perturbed(one, images.flatten(0, 1), labels.flatten(), classes, 0)
            return points.view_as(images)
        points = []
        for index, seed in enumerate(rng.seeds):
            one = _FunctionModule(partial(_network_logits, model, index, len(images)))
            points.append(self._perturbed(one, images[index], labels[index], classes, seed))
        return torch.stack(points)

    def _perturbed(
        self, module: nn.Module, images: Tensor, labels: Tensor, classes: int, seed: int
    ) -> Tensor:
        """What torchattacks makes of images [B,C,H,W] of one network."""
        size = 1 if self.attack in SINGLE_IMAGE else len(images)
        devices = [images.device] if images.device.type == "cuda" else []
        with (
            _LOCK,
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

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(getattr(_library(), self.attack)).parameters

    def _options(self, seed: int, classes: int) -> dict[str, Any]:
        """Epsilon, norm, step length, seed and number of classes, of those that it takes."""
        parameters = self._parameters()
        options: dict[str, Any] = {}
        for name in {"eps", "max_epsilon"} & parameters.keys():
            options[name] = self.threat.epsilon
        if "seed" in parameters:
            options["seed"] = seed
        if "n_classes" in parameters:  # its targets are one fewer
            options["n_classes"] = min(parameters["n_classes"].default, classes)
        if "norm" in parameters:
            options["norm"] = NAMES[self.threat.norm]
        if {"eps", "alpha"} <= parameters.keys():
            options["alpha"] = (
                parameters["alpha"].default * self.threat.epsilon / parameters["eps"].default
            )
        return options


class _FunctionModule(nn.Module):
    """A function of images [N,C,H,W] as the module that torchattacks wants."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = function
        self.device_of = nn.Parameter(torch.zeros(()))  # it asks the first parameter

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def _network_logits(model: Model, index: int, count: int, images: Tensor) -> Tensor:
    """Logits [N,K] of one network of P."""
    return model(images.expand(count, *images.shape).contiguous())[index]


def _library() -> Any:
    """torchattacks, imported only where it is used: it is slow to load, and an extra.

    Its own needs are those of hypergen, but for an old `requests` that it pins and never imports.
    """
    if find_spec("torchattacks") is None:
        raise AttackError(
            f"{PREFIX}NAME needs the package torchattacks: pip install --no-deps torchattacks "
            "(hypergen has its other needs; without --no-deps comes an old, unsafe requests)"
        )
    import torchattacks

    return torchattacks
