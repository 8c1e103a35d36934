"""What an attack asks of a model: logits and gradients, checked."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attacks.errors import AttackError

Model = Callable[[Tensor], Tensor]
"""Images [P,B,C,H,W] in [0, 1] to logits [P,B,K], of P networks independent of one another."""


def call(model: Model, points: Tensor) -> Tensor:
    """The model's logits [P,N,K] at points [P,N,C,H,W] as it returns them, NaN or not.

    Raises:
        AttackError: what it returns is no tensor [P,N,K].
    """
    logits = model(points)
    if not isinstance(logits, Tensor):
        raise AttackError(
            f"expected the model to return logits as one tensor, got {type(logits).__name__}"
        )
    if logits.ndim != 3 or logits.shape[:2] != points.shape[:2] or logits.shape[2] < 2:
        raise AttackError(
            f"expected logits [{points.shape[0]}, {points.shape[1]}, K], K >= 2, from the model, "
            f"got {list(logits.shape)}"
        )
    return logits


def evaluate(model: Model, points: Tensor) -> Tensor:
    """The model's logits [P,N,K] at points [P,N,C,H,W], in the precision of the points.

    Raises:
        AttackError: the logits are not finite or not [P,N,K].
    """
    logits = call(model, points)
    if not logits.isfinite().all():
        raise _not_finite(logits)
    return logits.to(points.dtype)


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
        raw = call(model, points)
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
    if not torch.stack([each.sum() for each in (logits.detach(), *gradients)]).isfinite().all():
        if not logits.isfinite().all():
            raise _not_finite(logits)
        if not all(gradient.isfinite().all() for gradient in gradients):
            raise AttackError("the gradient of the attack's loss is NaN or infinite")
    return logits.detach(), [loss.detach() for loss in values], gradients


def worst(
    model: Model,
    candidates: Sequence[Tensor],
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """For every image the candidate of the highest loss, the first of equals; all [P,B,C,H,W].

    Args:
        labels: [P,B].
        loss: logits [P,B,K] and labels to [P,B].

    Raises:
        AttackError: as `evaluate`.
    """
    kept = candidates[0]
    highest = loss(evaluate(model, kept), labels)
    for points in candidates[1:]:
        reached = loss(evaluate(model, points), labels)
        better = reached > highest
        kept = torch.where(better[..., None, None, None], points, kept)
        highest = torch.where(better, reached, highest)
    return kept


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """Where logits [P,N,K] pick another class than labels [P,N]; bool [P,N]."""
    return logits.argmax(-1) != labels


def _not_finite(logits: Tensor) -> AttackError:
    networks = (~logits.isfinite().all(2).all(1)).nonzero().flatten().tolist()
    return AttackError("the model returned NaN or infinite logits", networks)
