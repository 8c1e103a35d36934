"""Randomness that belongs to one training, whatever else draws in the same process.

PyTorch's layers take their initial weights, and dropout, from one global random state.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_GLOBAL_STATE = threading.Lock()
_METHODS = (
    "bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal_ random_ "
    "uniform_"
)
_FUNCTIONS = (
    "alpha_dropout alpha_dropout_ bernoulli dropout dropout_ feature_alpha_dropout "
    "feature_alpha_dropout_ feature_dropout feature_dropout_ multinomial native_dropout normal "
    "poisson rand rand_like randint randint_like randn randn_like randperm rrelu rrelu_"
)
_LAYERS = (
    "alpha_dropout dropout1d dropout2d dropout3d feature_alpha_dropout fractional_max_pool2d "
    "fractional_max_pool3d gumbel_softmax multi_head_attention_forward rrelu rrelu_ "
    "scaled_dot_product_attention"
)
_DRAWING = {
    getattr(namespace, name)
    for namespace, names in ((torch.Tensor, _METHODS), (torch, _FUNCTIONS), (F, _LAYERS))
    for name in names.split()
}
"""What draws from the global random state, but for `F.dropout`."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, PyTorch's global random state starts at `seed`; afterwards it is what it was.

    That of the CPU and of the current GPU, if there is one. One thread at a time is let in.
    """
    current = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with _GLOBAL_STATE, torch.random.fork_rng(current):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)  # of the current one alone; nothing without any
        yield


def global_state_of(device: torch.device) -> torch.Generator:
    """Returns a generator on `device` that draws what the global one would from here on."""
    on_gpu = device.type == "cuda"
    state = torch.cuda.get_rng_state(device) if on_gpu else torch.get_rng_state()
    rng = torch.Generator(device)
    rng.set_state(state)
    return rng


class OwnDropout(TorchFunctionMode):
    """Inside this context, in this thread, dropout draws from `rng`, on the device of `rng`.

    So does all else that would draw from the global random state: other kinds of dropout,
    attention, noise that a network adds. On a CPU they get the same numbers as from a global state
    like that of `rng`.
    """

    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.rng = rng

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.dropout:
            return self._dropout(*args, **(kwargs or {}))
        if func in _DRAWING:
            with _Drawing(self.rng):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(
        self, values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        # By hand, for it is the usual case, and `_Drawing` takes its time.
        if not training or p == 0:
            return values
        kept = torch.empty_like(values).bernoulli_(1 - p, generator=self.rng).div_(1 - p)
        return values.mul_(kept) if inplace else values * kept


class _Drawing(TorchDispatchMode):
    """Inside this context, PyTorch's operations that draw are given `rng`."""

    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.rng = rng

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten.native_dropout.default:  # on a GPU; it takes no generator
            return self._native_dropout(*args, **kwargs)
        drawing = _with_generator(func)
        if drawing is None or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        tensor = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        device = torch.device(kwargs.get("device") or "cpu") if tensor is None else tensor.device
        if device.type != self.rng.device.type:
            return func(*args, **kwargs)
        return drawing(*args, **kwargs, generator=self.rng)

    def _native_dropout(
        self, values: torch.Tensor, p: float, train: bool | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept = torch.empty_like(values).bernoulli_(1 - p, generator=self.rng)
        return values * kept.div(1 - p), kept.bool()


@functools.cache
def _with_generator(operation: Any) -> Any:
    """The overload of an operation that takes a generator besides; None where there is none."""

    def names(overload: Any) -> list[str]:
        return [argument.name for argument in overload._schema.arguments]

    wanted = {*names(operation), "generator"}
    packet = operation.overloadpacket
    overloads = [operation, *(getattr(packet, name) for name in packet.overloads())]
    return next((each for each in overloads if {*names(each)} == wanted), None)
