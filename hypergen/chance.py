"""Chance that belongs to one training, whatever else is trained in the same process.

PyTorch's layers take their initial weights, and dropout, from one global random state.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_GLOBAL_STATE = threading.Lock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, PyTorch's global random state starts at `seed`; afterwards it is what it was.

    That of the CPU and of the current GPU, if there is one.

    One thread at a time is let in.
    """
    current = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with _GLOBAL_STATE, torch.random.fork_rng(current):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)  # of the current one alone; nothing without any
        yield


def global_state_of(device: torch.device) -> torch.Generator:
    """A generator on `device` that draws what the global one would from here on."""
    on_gpu = device.type == "cuda"
    state = torch.cuda.get_rng_state(device) if on_gpu else torch.get_rng_state()
    rng = torch.Generator(device)
    rng.set_state(state)
    return rng


class OwnDropout(TorchFunctionMode):
    """Inside this context, in this thread, dropout draws from `rng`.

    On a CPU the same numbers as from a global state like that of `rng`.
    """

    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.rng = rng

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self._dropout if func is F.dropout else func)(*args, **(kwargs or {}))

    def _dropout(
        self, values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0:
            return values
        kept = torch.empty_like(values).bernoulli_(1 - p, generator=self.rng).div_(1 - p)
        return values.mul_(kept) if inplace else values * kept
