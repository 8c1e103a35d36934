"""What every attack is, and the check that none of them escapes.

An attack of one's own is a frozen dataclass of options, a `name` and a search:

>>> from dataclasses import dataclass
>>> from attacks import Attack, Threat, attack, evaluate, misclassified
>>> @dataclass(frozen=True)
... class RandomCorners(Attack):
...     tries: int = 10
...     name = "random-corners"
...
...     def _run(self, model, active_set, rng):
...         images = active_set.all_images  # [P,B,C,H,W]: numbers are drawn for all of them
...         for _ in range(self.tries):
...             if not active_set:  # every image is broken
...                 return
...             signs = rng.normal(*images.shape[1:]).sign()
...             corners = self.threat.project(images + self.threat.epsilon * signs, images)
...             points = active_set.pack(corners)  # [P,N,C,H,W]: of those that are still robust
...             broken = misclassified(evaluate(model, points), active_set.labels)
...             active_set.mark_adversarial(points, broken)

>>> import torch
>>> network = lambda images: torch.stack([images.mean((1, 2, 3)), 0.2 + images[:, 0, 0, 0]], 1)
>>> images, labels = torch.full((4, 1, 2, 2), 0.5), [1, 1, 1, 1]
>>> attack(RandomCorners(Threat("linf", 0.3)), network, images, labels).robust_mask
tensor([False, False, False, False])

`ATTACKS["random-corners"] = RandomCorners` makes it known by that name.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from attacks.active_set import ActiveSet
from attacks.errors import AttackError
from attacks.inputs import Array, checked
from attacks.model import Model, differentiate, differentiate_each, evaluate, misclassified
from attacks.rng import PerNetworkRNG
from attacks.threat import Threat

__all__ = [
    "ActiveSet",
    "Array",
    "Attack",
    "AttackError",
    "AttackResult",
    "Model",
    "PerNetworkRNG",
    "Threat",
    "checked",
    "differentiate",
    "differentiate_each",
    "evaluate",
    "misclassified",
]

SUSPICIOUS = 1e-4
"""By how much a pixel must lie outside the threat for the user to be told: more than rounding."""


@dataclass(frozen=True)
class AttackResult:
    """What an attack found on P networks, or, by `attacks.attack`, on one: then without P.

    Attributes:
        images: a point inside the threat for every image, one that breaks the network where one
            was found, else the clean image; one that broke it once and not when checked, as happens
            where answers are random, stays; [P,B,C,H,W].
        robust_mask: whether the network classifies that point correctly, so whether the image is
            robust to the attack; bool [P,B].
        masks: which images are robust to all attacks up to this one, by the attack's name and in
            order, bool [P,B] each: one mask for an attack, several for a suite.
    """

    images: Tensor
    robust_mask: Tensor
    masks: dict[str, Tensor] = field(default_factory=dict)

    @property
    def robust_accuracy(self) -> Tensor:
        """Share of images that are robust, in [0, 1], [P]."""
        return self.robust_mask.double().mean(-1)


@dataclass(frozen=True)
class Attack:
    """Searches a threat for points that a model gets wrong.

    A subclass is a frozen dataclass of hyperparameters. It need not be trusted: `__call__` pulls
    back what left the threat and asks the model once more, so no attack can report a success that
    is not there.

    What a subclass may override is marked "Hook". It must have a `name`, a string or a property,
    and `_run`, the search; `_perturb` makes images to train on, and `describe` tells of an option
    whose default is worked out. `__call__` and `perturb`, which check what users hand in, stay.
    """

    threat: Threat
    name: ClassVar[str]
    """Hook: the attack's short name, as a table shows it."""
    unconstrained_norms: ClassVar[Collection[str]] = ()
    """Hook: norms in which the search may visit points of [0, 1] outside the ball too, as
    minimum-norm attacks do; only points inside may be marked as adversarial."""
    one_at_a_time: ClassVar[bool] = False
    """Hook: whether P networks together take P times as long as one after the other."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if not hasattr(cls, "name") or callable(cls.name):
            raise AttackError(f"{cls.__name__} needs a `name`, a property or a string; see Attack")
        if cls._run is Attack._run and cls._attack is Attack._attack:
            raise AttackError(f"{cls.__name__} needs a `_run`, its search; see Attack")
        return super().__new__(cls)

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        """Hook: visits points inside the threat, each of which goes to `mark_adversarial`."""
        raise NotImplementedError

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """Hook: what `perturb` returns; images [P,B,C,H,W] and labels [P,B] are checked already."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Hook: name and every hyperparameter, threat included, as JSON can hold it."""
        return {"name": self.name, **asdict(self)}

    @property
    def perturbs(self) -> bool:
        """Whether it makes images to train on, see `perturb`."""
        return type(self)._perturb is not Attack._perturb

    @torch.inference_mode(False)
    @torch.no_grad()
    def perturb(self, model: Model, images: Array, labels: Array, seeds: Sequence[int]) -> Tensor:
        """A strong point for every image, [P,B,C,H,W], found or not: to train and to measure on.

        No image is deactivated and no point is evaluated once more. Arguments and errors as in
        `__call__`; AttackError from an attack that makes no such points.
        """
        if not self.perturbs:
            raise AttackError(f"{self.name} only evaluates; it makes no images to train on")
        model, images, labels, seeds = checked(model, images, labels, seeds)
        return self._perturb(model, images, labels, PerNetworkRNG(seeds, images.device))

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(
        self, model: Model, images: Array, labels: Array, seeds: Sequence[int]
    ) -> AttackResult:
        """Attacks what the model gets right; an image is broken by the first point that fools it.

        Args:
            model: images [P,N,C,H,W] to logits [P,N,K], for any N. Its parameters receive no
                gradients and its mode is left alone.
            images: float32 or float64 in [0, 1], [P,B,C,H,W], a tensor or an array.
            labels: true classes, integers in [0, K), [P,B], or [B] for all networks alike.
            seeds: one a network, length P. Results depend on a network's own seed only.

        Raises:
            AttackError: bad input, or a model that returns NaN, infinities or a wrong shape.
        """
        model, images, labels, seeds = checked(model, images, labels, seeds)
        logits = evaluate(model, images)
        active = ~misclassified(logits, labels)
        return self._attack(model, images, labels, logits, active, seeds)

    def _attack(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        active: Tensor,
        seeds: Sequence[int],
    ) -> AttackResult:
        """Attacks the active images, bool [P,B], and checks all that was found.

        `logits` are those of the clean images, [P,B,K].
        """
        active_set = ActiveSet(images, labels, logits, active)
        if not active_set:
            return AttackResult(active_set.adversarial, active, {self.name: active})
        self._run(model, active_set, PerNetworkRNG(seeds, images.device))
        adv = self._inside(active_set.adversarial, images)
        robust = active & ~misclassified(evaluate(model, adv), labels)
        return AttackResult(adv, robust, {self.name: robust})

    def _inside(self, found: Tensor, images: Tensor) -> Tensor:
        """The points found, pulled back into the threat; [P,B,C,H,W]."""
        adv = self.threat.project(found, images)
        # Written so that NaN fails.
        if not (self.threat.contains(adv, images).all() & (adv.min() >= 0) & (adv.max() <= 1)):
            raise AttackError(f"{self.name} returned images outside its threat, or NaN")
        # Far enough for no rounding: hundreds of pixels add up to a length.
        outside = ((adv - found).abs() > SUSPICIOUS).flatten(2).any(-1)
        if outside.any():
            warnings.warn(
                f"{self.name} marked {int(outside.sum())} points outside its threat as adversarial;"
                " they were pulled back into it and count only if they still are",
                stacklevel=6,  # whoever called the attack
            )
        return adv
