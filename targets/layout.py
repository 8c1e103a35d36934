"""Flat weight vectors: [D] numbers in exact correspondence with a module's named tensors."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from targets.errors import TargetError

SMALL_SCALE = 0.1
"""How far parameters without a fan-in typically move from where they start: the gains and shifts
of normalisation layers, the parameters of activations."""


@dataclass(frozen=True)
class Slot:
    """One named tensor of a target: where it lies in the flat vector, and its typical size."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    scale: float


@dataclass(frozen=True)
class WeightLayout:
    """The trainable tensors of a module in order; flat [D] vector <-> named tensors, exactly."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The layout of `module`: its parameters, as `named_parameters` lists them.

        Weights that several layers share are listed once, by their first name. `TargetError` for a
        module without any.
        """
        slots, start = [], 0
        for name, tensor in module.named_parameters():
            weight = getattr(module.get_submodule(name.rpartition(".")[0]), "weight", None)
            if isinstance(weight, Tensor) and weight.ndim >= 2:
                # PyTorch's own initial size of a layer's weights and bias (He et al. 2015).
                scale = 1.0 / math.sqrt(weight[0].numel())
            else:
                scale = SMALL_SCALE
            slots.append(Slot(name, tuple(tensor.shape), start, start + tensor.numel(), scale))
            start += tensor.numel()
        if not slots:
            raise TargetError(f"a target needs weights; {type(module).__name__} has none")
        return cls(tuple(slots))

    @property
    def size(self) -> int:
        """D, the number of weights."""
        return self.slots[-1].stop

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that any change of a name, a shape or the order changes."""
        text = "\n".join(f"{slot.name} {slot.shape}" for slot in self.slots)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Named tensors `[*lead, *shape]` (a state_dict, say) -> flat `[*lead, D]`.

        Raises `TargetError` when a tensor is missing or has another shape.
        """
        parts = []
        for slot in self.slots:
            if slot.name not in tensors:
                raise TargetError(f"weights lack the tensor {slot.name!r}")
            tensor = tensors[slot.name]
            lead = tensor.ndim - len(slot.shape)
            if lead < 0 or tuple(tensor.shape[lead:]) != slot.shape:
                raise TargetError(
                    f"{slot.name!r}: expected shape {slot.shape}, got {tuple(tensor.shape)}"
                )
            parts.append(tensor.reshape(*tensor.shape[:lead], slot.stop - slot.start))
        return torch.cat(parts, dim=-1)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Flat `[*lead, D]` -> named tensors `[*lead, *shape]`: views, so gradients flow back.

        `TargetError` for another D.
        """
        if theta.shape[-1:] != (self.size,):
            raise TargetError(f"expected {self.size} weights, got shape {list(theta.shape)}")
        # One split: the gradient of a slice would be a whole [*lead, D] for every tensor.
        parts = theta.split([slot.stop - slot.start for slot in self.slots], dim=-1)
        return {
            slot.name: part.reshape(*theta.shape[:-1], *slot.shape)
            for slot, part in zip(self.slots, parts, strict=True)
        }

    def scales(self) -> Tensor:
        """[D], the typical size of each weight: 1 / sqrt(fan-in) of its layer."""
        return torch.cat([torch.full((s.stop - s.start,), s.scale) for s in self.slots])
