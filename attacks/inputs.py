"""The one check of everything that a user hands to an attack: model, images, labels and seeds."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.errors import AttackError, shown
from attacks.model import Model, call

ROUNDING = 1e-6
"""How far outside [0, 1] a pixel value may lie and still be clipped instead of refused."""

Array = Tensor | np.ndarray | Sequence[Any]
"""What can be given as images, labels or seeds: a tensor, an array or nested lists of numbers."""


class CheckedModel:
    """A model that knows all labels and cannot change the attack's points.

    It works on a copy: one that changes its input in place, as `x -= mean` does, would move the
    very points that the attack goes on from. The copy takes less than a hundredth of the time of a
    forward pass of the smallest target.

    Args:
        model: images [P,N,C,H,W] to logits [P,N,K].
        highest_label: compared with K at every call, so that no forward pass is spent on it.
    """

    def __init__(self, model: Model, highest_label: int) -> None:
        self.model, self.highest_label = model, highest_label

    def __call__(self, points: Tensor) -> Tensor:
        """The logits; AttackError if there are not enough, or as `attacks.model.call`."""
        logits = call(self.model, points.clone())
        if self.highest_label >= logits.shape[-1]:
            raise AttackError(
                f"expected labels below the model's {logits.shape[-1]} classes, "
                f"got {self.highest_label}"
            )
        return logits


def checked(
    model: Model, images: Array, labels: Array, seeds: Iterable[int]
) -> tuple[Model, Tensor, Tensor, list[int]]:
    """Model, images [P,B,C,H,W], labels int64 [P,B], both contiguous, and P seeds.

    The model returned is a `CheckedModel`. Images outside [0, 1] by rounding alone are clipped.

    Raises:
        AttackError: one of them is not what `Attack.__call__` expects.
    """
    require_callable("model", model)
    images = _checked_images(images)
    networks, batch = images.shape[:2]
    labels = as_tensor("labels", labels)
    if labels.shape not in ((batch,), (networks, batch)):
        raise AttackError(
            f"expected labels [{batch}] or [{networks}, {batch}], got {list(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise AttackError(f"expected labels of an integer type, got {labels.dtype}")
    labels = labels.to(images.device, torch.int64).expand(networks, batch).contiguous()
    low, high = torch.stack(labels.aminmax()).tolist()
    if low < 0:
        raise AttackError(f"expected labels of at least 0, got {low}")
    return CheckedModel(model, high), images, labels, _checked_seeds(seeds, networks)


def require_callable(name: str, value: object) -> None:
    """Raises AttackError unless the value can be called with images, as a network is."""
    if not callable(value):
        raise AttackError(f"expected a {name} that is called with images, got {shown(value)}")


def as_tensor(name: str, values: Array) -> Tensor:
    """The values as a tensor that autograd can use and knows no history of.

    Raises:
        AttackError: they are no numbers, or lists of unequal lengths; a tensor on "meta", sparse
            or quantized.
    """
    if not isinstance(values, Tensor):
        try:
            values = torch.tensor(np.ascontiguousarray(values))
        except (TypeError, ValueError) as error:
            raise AttackError(
                f"expected {name} as a tensor or an array of numbers, "
                f"got {type(values).__name__}: {error}"
            ) from None
    if values.is_meta or values.is_quantized or values.layout != torch.strided:
        raise AttackError(f"expected {name} as plain numbers, got a {_kind(values)} tensor")
    return values.clone() if values.is_inference() else values.detach()


def _kind(values: Tensor) -> str:
    if values.layout != torch.strided:
        return str(values.layout).removeprefix("torch.")
    return "quantized" if values.is_quantized else "meta"


def _checked_images(images: Array) -> Tensor:
    images = as_tensor("images", images)
    if images.ndim != 5 or 0 in images.shape:
        raise AttackError(f"expected images [P,B,C,H,W], none empty, got {list(images.shape)}")
    if images.dtype not in (torch.float32, torch.float64):
        raise AttackError(f"expected float32 or float64 images, got {images.dtype}")
    low, high = torch.stack(images.aminmax()).tolist()
    # Written so that NaN fails.
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise AttackError(f"expected images in [0, 1], got values from {low:.7g} to {high:.7g}")
    return (images if low >= 0 and high <= 1 else images.clamp(0, 1)).contiguous()


def _checked_seeds(seeds: Iterable[int], networks: int) -> list[int]:
    try:
        whole = [index(seed) for seed in seeds]
    except TypeError:
        raise AttackError(
            f"expected seeds, one whole number a network, got {shown(seeds)}"
        ) from None
    if len(whole) != networks:
        raise AttackError(f"expected {networks} seeds, one a network, got {len(whole)}")
    if not all(-(2**63) <= seed < 2**64 for seed in whole):
        raise AttackError(f"expected seeds of at most 64 bits, got {shown(whole)}")
    return whole
