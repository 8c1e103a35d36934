"""Networks that vote as one."""

import math
from collections.abc import Iterator
from typing import Self

from torch import Tensor, nn

from targets.errors import TargetError, require_dense
from targets.population import Population


class Ensemble(nn.Module):
    """P networks that vote as one: images [B,C,H,W] in [0,1] -> log of their mean soft-max, [B,K].

    It is also evaluated and attacked as a population of one network is: [1,B,C,H,W] -> [1,B,K].
    The members' weights and buffers are its buffers: it is moved, saved and copied like any module.

    Raises:
        TargetError: no population, or one of no networks; images of another shape.
    """

    def __init__(self, members: Population):
        super().__init__()
        if not isinstance(members, Population):
            raise TargetError(
                f"an ensemble is of a population, got {type(members).__name__}; "
                "Population.of([network, ...]) makes one"
            )
        if not len(members):
            raise TargetError("an ensemble needs at least one network, got an empty population")
        self._members = members
        self.register_buffer("theta", members.theta)
        for name, buffer in members.buffers.items():
            self.register_buffer(_key(name), buffer)

    @property
    def members(self) -> Population:
        """The networks, wherever the ensemble was moved."""
        theta = self.get_buffer("theta")
        buffers = {name: self.get_buffer(_key(name)) for name in self._members.buffers}
        own = self._members
        same = theta is own.theta and all(buffers[name] is own.buffers[name] for name in buffers)
        if not same:
            self._members = own.with_tensors(theta, buffers)
        return self._members

    def __len__(self) -> int:
        return 1

    def forward(self, images: Tensor) -> Tensor:
        require_dense(images)
        if images.ndim == 4:
            return self(images[None])[0]
        if images.ndim != 5 or len(images) != 1:
            raise TargetError(f"expected images [B,C,H,W] or [1,B,C,H,W], got {list(images.shape)}")
        members = self.members
        logits = members(images.expand(len(members), *images.shape[1:]))
        return logits.log_softmax(-1).logsumexp(0, keepdim=True) - math.log(len(members))

    def in_parts(self, size: int | None) -> Self:
        """The same, its members as `Population.in_parts` makes them."""
        return self if size is None else type(self)(self.members.in_parts(size))

    def chunks(self, size: int | None = None) -> Iterator[tuple[slice, Self]]:
        """It is one chunk."""
        yield slice(0, 1), self


def _key(name: str) -> str:
    """What a buffer of the members is called here: a module refuses names with dots."""
    return f"buffers/{name.replace('.', '/')}"
