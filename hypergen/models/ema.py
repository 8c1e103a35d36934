"""The moving average of a network in training, which is often better than the network itself."""

import copy
from collections.abc import Callable, Iterator
from itertools import compress
from typing import Any, Self

import torch
from torch import Tensor, nn


class WithConstants(nn.Module):
    """A module with buffers that nothing changes, named in `constants`."""

    constants: tuple[str, ...] = ()


def ema(network: nn.Module, decay: float) -> "EMA":
    """A copy of `network` that `update_parameters(network)` brings nearer, by 1 - decay.

    The exponential average of parameters and buffers, integers taken over as they are; it forgets
    the untrained start of a short run faster. With a decay of 0 it is the network as it was last.
    What a module `WithConstants` names is not copied but shared.
    """
    shared = {id(buffer): buffer for buffer in _constants(network)}
    return EMA(copy.deepcopy(network, shared), decay)


class EMA(nn.Module):
    """See `ema`; as PyTorch's `AveragedModel`, but that no step waits for a GPU."""

    n_averaged: Tensor

    def __init__(self, module: nn.Module, decay: float):
        super().__init__()
        self.module, self.decay = module, decay
        self.register_buffer("n_averaged", torch.tensor(0))

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """A step towards the network as it is now; the first is all the way."""
        count = int(self.n_averaged)
        share = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
        own = [*self.module.parameters(), *self.module.buffers()]
        given = [*network.parameters(), *network.buffers()]
        floating = [
            average.is_floating_point() and average is not current
            for average, current in zip(own, given, strict=True)
        ]
        # One kernel for all, as in PyTorch's own averages and optimisers.
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(compress(own, floating)), list(compress(given, floating)), share
        )
        for average, current in zip(own, given, strict=True):
            if not average.is_floating_point():
                average.copy_(current)
        self.n_averaged += 1

    def share_constants(self, network: nn.Module) -> None:
        """Shares them with `network` again, after both were moved to another device."""
        for own, given in zip(self.module.modules(), network.modules(), strict=True):
            if isinstance(given, WithConstants):
                own._buffers |= {name: given._buffers[name] for name in given.constants}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.n_averaged = self.n_averaged.cpu()  # where every step may read it
        return self


def _constants(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, WithConstants):
            yield from map(module.get_buffer, module.constants)
