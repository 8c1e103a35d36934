"""An attack on one network, without the axis of networks that populations have."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from attacks.base import Array, Attack, AttackError, AttackResult
from attacks.inputs import as_tensor, require_callable
from attacks.registry import build
from attacks.threat import Threat

Network = Callable[[Tensor], Tensor]
"""Images [B,C,H,W] in [0, 1] to logits [B,K]."""


def attack(
    name: str | Attack,
    network: Network,
    images: Array,
    labels: Array,
    *,
    norm: str | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    **options: Any,
) -> AttackResult:
    """What an attack finds on one network; nothing in the result has an axis of networks.

    >>> import torch
    >>> network = lambda x: torch.stack([x.mean((1, 2, 3)), 0.3 - x.mean((1, 2, 3))], 1)
    >>> images = torch.tensor([0.2, 0.4, 0.7]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    >>> result = attack("pgd", network, images, [0, 0, 1], epsilon=0.1, steps=20)
    >>> result.robust_mask  # class 0 is brighter than 0.15
    tensor([False,  True, False])

    Args:
        name: as `attacks.build` knows it, "pgd" or "standard" say; or an `Attack`, which has its
            own norm, epsilon and options.
        network: any callable from images [B,C,H,W] to logits [B,K]. A module is attacked in the
            mode it is in (`eval()` is up to the caller) and its parameters receive no gradients.
        images: float32 or float64 in [0, 1], [B,C,H,W], a tensor or an array.
        labels: true classes, integers in [0, K), [B].
        norm: "linf", "l2" or "l1"; None means "linf".
        epsilon: how far an image may be changed in that norm, in pixel values.
        seed: of the attack's random numbers.
        options: the attack's own, as `steps=50`.

    Returns:
        `images` [B,C,H,W], `robust_mask` [B], `masks` of [B] and `robust_accuracy`, a scalar.

    Raises:
        AttackError: an unknown name or option, bad input, or logits that are not finite or [B,K].
    """
    chosen = _chosen(name, norm, epsilon, options)
    require_callable("network", network)
    images, labels = as_tensor("images", images), as_tensor("labels", labels)
    if images.ndim != 4 or 0 in images.shape:
        raise AttackError(f"expected images [B,C,H,W], none empty, got {list(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise AttackError(f"expected labels [{len(images)}], got {list(labels.shape)}")
    result = chosen(_population_of_one(network), images[None], labels[None], [seed])
    masks = {title: mask[0] for title, mask in result.masks.items()}
    return AttackResult(result.images[0], result.robust_mask[0], masks)


def _chosen(
    name: str | Attack, norm: str | None, epsilon: float | None, options: Mapping[str, Any]
) -> Attack:
    if isinstance(name, Attack):
        if norm is not None or epsilon is not None or options:
            raise AttackError(f"{name.name} has its own norm, epsilon and options; give none here")
        return name
    if epsilon is None:
        raise AttackError("expected an epsilon, how far an image may be changed: epsilon=0.1")
    return build(name, Threat("linf" if norm is None else norm, epsilon), **options)


def _population_of_one(network: Network) -> Network:
    """The network as attacks call it: images [1,B,C,H,W] to logits [1,B,K]."""

    def model(images: Tensor) -> Tensor:
        logits = network(images[0])
        if not isinstance(logits, Tensor):
            return logits  # refused where the attack calls it
        if logits.ndim != 2:
            raise AttackError(
                f"expected logits [{images.shape[1]}, K] from the network, got {list(logits.shape)}"
            )
        return logits[None]

    return model
