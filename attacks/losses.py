"""What an attack maximises: one number an image, none of which depends on another image.

Logits are [P,B,K], labels and targets int64 [P,B], losses [P,B].
"""

import torch.nn.functional as F
from torch import Tensor

from attacks.errors import AttackError

TARGETED_DLR_CLASSES = 4
"""Classes that the targeted DLR loss needs at least."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the label's soft-max probability, [P,B]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, [P,B]: positive where the model is wrong (Carlini, Wagner 2017)."""
    return _without(logits, labels).max(-1).values - _at(logits, labels)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """z_t - z_y, [P,B] (Gowal et al. 2019, "An alternative surrogate loss")."""
    return _at(logits, targets) - _at(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, the margin over z_(1) - z_(3), [P,B] (Croce, Hein 2020).

    Raises:
        AttackError: fewer than 3 classes.
    """
    top = _largest(logits, 3, "the DLR loss")
    return margin(logits, labels) / (top[..., 0] - top[..., 2] + 1e-12)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """z_t - z_y over z_(1) - (z_(3) + z_(4)) / 2, [P,B] (Croce, Hein 2020).

    Raises:
        AttackError: fewer than 4 classes.
    """
    top = _largest(logits, TARGETED_DLR_CLASSES, "the targeted DLR loss")
    scale = top[..., 0] - (top[..., 2] + top[..., 3]) / 2
    return targeted_margin(logits, labels, targets) / (scale + 1e-12)


def divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """KL(p || q), [P,B]: p the probabilities of the logits `clean`, q those of `logits`."""
    p, q = clean.log_softmax(-1), logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def wrong_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """The classes other than the label, the likeliest first, int64 [P,B,K-1]."""
    return _without(logits, labels).argsort(dim=-1, descending=True, stable=True)[..., :-1]


def _at(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(-1, classes[..., None]).squeeze(-1)


def _without(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels[..., None], float("-inf"))


def _largest(logits: Tensor, count: int, loss: str) -> Tensor:
    if logits.shape[-1] < count:
        raise AttackError(f"{loss} needs at least {count} classes, got {logits.shape[-1]}")
    return logits.topk(count, -1).values
