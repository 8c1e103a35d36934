"""What every attack is, and the check that none of them escapes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.draws import Draws
from attacks.error import AttackError
from attacks.survivors import Survivors
from attacks.threat import Threat

__all__ = [
    "Attack",
    "AttackError",
    "AttackResult",
    "Draws",
    "Model",
    "Survivors",
    "Threat",
    "differentiate",
    "differentiate_each",
    "evaluate",
    "misclassified",
]

Model = Callable[[Tensor], Tensor]
"""Images [P,B,C,H,W] in [0, 1] to logits [P,B,K], of P networks independent of one another."""


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        images: a point inside the threat for every image, one that breaks the network where one
            was found, else the clean image; one that broke it once and not when checked, as happens
            where answers are random, stays; [P,B,C,H,W].
        correct: whether the network classifies that point correctly, so whether the image survived;
            bool [P,B].
        table: which images were left after each attack, by its name and in order, bool [P,B] each:
            one row for an attack, several for a suite.
    """

    images: Tensor
    correct: Tensor
    table: dict[str, Tensor] = field(default_factory=dict)

    @property
    def robust_accuracy(self) -> Tensor:
        """Share of images that survived, in [0, 1], [P]."""
        return self.correct.float().mean(1)


@dataclass(frozen=True)
class Attack(ABC):
    """Searches a threat for points that a model gets wrong.

    A subclass is a frozen dataclass of hyperparameters with a `name` and a `_run`. It need not be
    trusted: `__call__` pulls back what left the threat and asks the model once more, so no attack
    can report a success that is not there.
    """

    threat: Threat
    roams: ClassVar[Collection[str]] = ()
    """Norms in which the search may visit points of [0, 1] outside the ball too, as attacks do that
    look for the nearest adversarial example; only points inside go to `survivors.drop` as broken.
    """
    singly: ClassVar[bool] = False
    """Whether P networks together take P times as long as one after the other."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The attack's short name, as a table shows it."""

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        """Visits points inside the threat, handing each with its verdict to `survivors.drop`."""
        raise NotImplementedError

    @property
    def perturbs(self) -> bool:
        """Whether it makes images to train on, see `perturb`."""
        return type(self).perturb is not Attack.perturb

    def perturb(self, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """A strong point for every image, [P,B,C,H,W], found or not: to train and to measure on.

        Nothing is dropped or judged. Arguments and errors as in `__call__`; AttackError from an
        attack that is only for judging.
        """
        raise AttackError(f"{self.name} only judges; it makes no images to train on")

    def describe(self) -> dict[str, Any]:
        """Name and every hyperparameter, threat included, as JSON can hold it."""
        return {"name": self.name, **asdict(self)}

    @torch.no_grad()
    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
    ) -> AttackResult:
        """Attacks what the model gets right; an image is lost at the first point that breaks it.

        Args:
            model: images [P,N,C,H,W] to logits [P,N,K], for any N. Its parameters receive no
                gradients and its mode is left alone.
            images: float32 or float64 in [0, 1], [P,B,C,H,W].
            labels: true classes, integers in [0, K), [P,B], or [B] for all networks alike.
            seeds: one a network, length P. Results depend on a network's own seed only.

        Raises:
            AttackError: bad input, or a model that returns NaN, infinities or a wrong shape.
        """
        images, labels = checked(images, labels, seeds)
        logits = evaluate(model, images)
        if labels.max() >= logits.shape[-1]:
            raise AttackError(
                f"expected labels below the model's {logits.shape[-1]} classes, "
                f"got {int(labels.max())}"
            )
        active = ~misclassified(logits, labels)
        return self._judge(model, images, labels, logits, active, seeds)

    def _judge(
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
        survivors = Survivors(images, labels, logits, active)
        if not survivors:
            return AttackResult(survivors.adversarial, active, {self.name: active})
        self._run(model, survivors, Draws(seeds, images.device))
        adv = self.threat.project(survivors.adversarial, images)
        adv = torch.where(active[..., None, None, None], adv, images)
        # Written so that NaN fails.
        if not (self.threat.contains(adv, images).all() and _in_unit_range(adv)):
            raise AttackError(f"{self.name} returned images outside its threat, or NaN")
        correct = active & ~misclassified(evaluate(model, adv), labels)
        return AttackResult(adv, correct, {self.name: correct})


def checked(images: Tensor, labels: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images [P,B,C,H,W] and labels int64 [P,B], both contiguous, or an AttackError."""
    if images.ndim != 5 or 0 in images.shape:
        raise AttackError(f"expected images [P,B,C,H,W], none empty, got {list(images.shape)}")
    if images.dtype not in (torch.float32, torch.float64):
        raise AttackError(f"expected float32 or float64 images, got {images.dtype}")
    if not _in_unit_range(images):
        low, high = float(images.min()), float(images.max())
        raise AttackError(f"expected images in [0, 1], got values from {low:.4g} to {high:.4g}")
    networks, batch = images.shape[:2]
    if labels.shape not in ((batch,), (networks, batch)):
        raise AttackError(
            f"expected labels [{batch}] or [{networks}, {batch}], got {list(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise AttackError(f"expected labels of an integer type, got {labels.dtype}")
    if labels.min() < 0:
        raise AttackError(f"expected labels of at least 0, got {int(labels.min())}")
    if len(seeds) != networks:
        raise AttackError(f"expected {networks} seeds, one a network, got {len(seeds)}")
    labels = labels.to(images.device, torch.int64).expand(networks, batch)
    return images.detach().contiguous(), labels.contiguous()


def evaluate(model: Model, points: Tensor) -> Tensor:
    """The model's logits [P,N,K] at points [P,N,C,H,W], in the precision of the points.

    Raises:
        AttackError: the logits are not finite or not [P,N,K].
    """
    logits = _logits(model, points)
    if not logits.isfinite().all():
        raise _not_finite(logits)
    return logits.to(points.dtype)


def _logits(model: Model, points: Tensor) -> Tensor:
    """As `evaluate`, but infinities and NaN pass."""
    logits = model(points)
    if logits.ndim != 3 or logits.shape[:2] != points.shape[:2] or logits.shape[2] < 2:
        raise AttackError(
            f"expected logits [{points.shape[0]}, {points.shape[1]}, K], K >= 2, from the model, "
            f"got {list(logits.shape)}"
        )
    return logits


def _not_finite(logits: Tensor) -> AttackError:
    networks = (~logits.isfinite().all(2).all(1)).nonzero().flatten().tolist()
    return AttackError("the model returned NaN or infinite logits", networks)


def differentiate(
    model: Model, points: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [P,N,K], loss [P,N] and the loss's gradient [P,N,C,H,W] at points [P,N,C,H,W].

    Raises:
        AttackError: as `differentiate_each`.
    """
    logits, (values,), (gradient,) = differentiate_each(model, points, lambda z: [loss(z)])
    return logits, values, gradient


def differentiate_each(
    model: Model, points: Tensor, losses: Callable[[Tensor], Sequence[Tensor]]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """As `differentiate`, for several losses of the same logits: one forward pass for all.

    The points must lie inside the threat already. To differentiate through a clamp instead would
    give no gradient to any pixel that the clamp holds: on MNIST, to half of the background.

    Raises:
        AttackError: as `evaluate`, or the gradient is not finite or does not reach the points.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        raw = _logits(model, points)
        if not raw.requires_grad:
            raise AttackError("the model's logits carry no gradient: is it run under no_grad?")
        logits = raw.to(points.dtype)
        values = losses(logits)
        gradients = []
        for index, loss in enumerate(values, 1):
            more = index < len(values)
            gradients += torch.autograd.grad(loss.sum(), points, retain_graph=more)
    # A sum is NaN or infinite if any of it is, and five times as fast to look at. Looked at once:
    # every look makes a GPU wait.
    sums = torch.stack([logits.detach().isfinite().all(), *(g.sum().isfinite() for g in gradients)])
    if not sums.all():
        if not logits.isfinite().all():
            raise _not_finite(logits)
        if not all(gradient.isfinite().all() for gradient in gradients):
            raise AttackError("the gradient of the attack's loss is NaN or infinite")
    return logits.detach(), [loss.detach() for loss in values], gradients


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """Where logits [P,N,K] pick another class than labels [P,N]; bool [P,N]."""
    return logits.argmax(-1) != labels


def _in_unit_range(images: Tensor) -> bool:
    return bool((images.min() >= 0) & (images.max() <= 1))
