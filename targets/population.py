"""P networks of one architecture, evaluated by one call."""

import copy
import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from targets.fast_cpu import FastCPU
from targets.layout import TargetError, WeightLayout

T = TypeVar("T")
R = TypeVar("R")
_BYTES_KEPT: dict[tuple[str, str, torch.Size, torch.dtype], int] = {}


class Population:
    """P weight vectors of one target; images [P,B,C,H,W] in [0,1] -> logits [P,B,K].

    Gradients flow to the images and to `theta`. Networks never influence each other. The target
    runs in evaluation mode: no dropout, batch norm with the statistics in `buffers`.

    Args:
        module: the target; its own weights are not used, its buffers are the default `buffers`.
        theta: [P,D] weights in the order of `WeightLayout.of(module)`.
        buffers: every named buffer of the target, [P, *shape], one set a network (see
            `recalibrate`); on the device of `theta`.

    Raises:
        TargetError: weights of another size, or a buffer missing.
    """

    def __init__(
        self, module: nn.Module, theta: Tensor, buffers: Mapping[str, Tensor] | None = None
    ):
        self.layout = WeightLayout.of(module)
        if theta.ndim != 2 or theta.shape[1] != self.layout.size:
            raise TargetError(
                f"expected weights [P, {self.layout.size}], got {list(theta.shape)} "
                "(a layout of another target?)"
            )
        if buffers is None:
            buffers = {
                name: buffer.detach().to(theta.device).expand(len(theta), *buffer.shape)
                for name, buffer in module.named_buffers()
            }
        elif missing := {name for name, _ in module.named_buffers()} - set(buffers):
            raise TargetError(f"expected a value for each buffer, got none for {sorted(missing)}")
        self.theta, self.buffers = theta, dict(buffers)
        self._networks: list[dict[str, Tensor]] | None = None  # their tensors, once asked for
        # Without numbers, since a call brings them all: 11 million weights are copied in no time.
        empty = {name: torch.empty_like(t, device="meta") for name, t in _tensors(module)}
        self._skeleton = _PerThread(_copy_with(module, empty).eval())

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Self:
        """The population of given networks. `TargetError` for none, or several architectures."""
        modules = list(modules)
        if not modules:
            raise TargetError("a population needs at least one network")
        layout, printed = WeightLayout.of(modules[0]), repr(modules[0])
        if any(WeightLayout.of(m) != layout or repr(m) != printed for m in modules):
            raise TargetError("a population needs networks of one architecture")
        theta = torch.stack([layout.flatten(dict(m.named_parameters())) for m in modules]).detach()
        states = [dict(m.named_buffers()) for m in modules]
        buffers = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return cls(modules[0], theta, buffers)

    @property
    def architecture(self) -> str:
        """The target in words: its modules, as PyTorch prints them."""
        return self._skeleton.printed

    @property
    def has_batch_norm(self) -> bool:
        """Whether the target has statistics to `recalibrate`."""
        return bool(_norms(self._skeleton.module))

    def __len__(self) -> int:
        return len(self.theta)

    def __getitem__(self, index: slice) -> Self:
        buffers = {name: buffer[index] for name, buffer in self.buffers.items()}
        return self._replaced(self.theta[index], buffers)

    def choose(self, indices: Tensor) -> Self:
        """The networks at `indices` [Q], in that order."""
        buffers = {name: buffer[indices] for name, buffer in self.buffers.items()}
        return self._replaced(self.theta[indices], buffers)

    def with_theta(self, theta: Tensor) -> Self:
        """The same networks (architecture, buffers) with other weights [P,D]; or `TargetError`."""
        if theta.shape != self.theta.shape:
            raise TargetError(f"expected weights {list(self.theta.shape)}, got {list(theta.shape)}")
        return self._replaced(theta, self.buffers)

    def _replaced(self, theta: Tensor, buffers: dict[str, Tensor]) -> Self:
        other = copy.copy(self)
        other.theta, other.buffers, other._networks = theta, buffers, None
        return other

    def __call__(self, images: Tensor) -> Tensor:
        if images.ndim != 5 or len(images) != len(self):
            raise TargetError(f"expected images [{len(self)},B,C,H,W], got {list(images.shape)}")
        # Measured: on a CPU a loop beats vmap and grouped convolutions.
        if images.device.type == "cpu":
            return self._loop(self._each(), images)
        return self._vmap(self._tensors(), images)

    def _loop(self, networks: Sequence[dict[str, Tensor]], images: Tensor) -> Tensor:
        with FastCPU():
            pairs = zip(networks, images, strict=True)
            logits = [self._skeleton.call(tensors, batch) for tensors, batch in pairs]
        return torch.stack(logits)

    def _vmap(self, tensors: dict[str, Tensor], images: Tensor) -> Tensor:
        return vmap(functools.partial(functional_call, self._skeleton.module))(tensors, images)

    def _tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer of all networks, [P, *shape] each."""
        return self.layout.unflatten(self.theta) | self.buffers

    def _each(self) -> list[dict[str, Tensor]]:
        """The same, network by network; looked up once, but that every call has its own graph."""
        networks = self._networks
        if networks is None or self.theta.requires_grad:
            tensors = self._tensors()
            networks = self._networks = [_of(index, tensors) for index in range(len(self))]
        return networks

    def to(self, device: torch.device) -> Self:
        """The same networks on another device."""
        buffers = {name: buffer.to(device) for name, buffer in self.buffers.items()}
        return self._replaced(self.theta.to(device), buffers)

    def module_at(self, index: int) -> nn.Module:
        """Network `index` as an ordinary module with its own weights and buffers."""
        own = _of(index, self.layout.unflatten(self.theta.detach()) | self.buffers)
        own = {name: tensor.clone() for name, tensor in own.items()}
        return _copy_with(self._skeleton.module, own)

    def recalibrate(
        self, images: Tensor, batch_size: int = 256, at_once: int | None = None
    ) -> Self:
        """The same networks with batch-norm statistics of training images [N,C,H,W].

        Weights decide what the statistics are, so these are measured after generation and never
        generated. They are averages over batches of near-equal size, at most `batch_size`; in one
        batch, the mean and unbiased variance over all images. On a GPU `at_once` networks are
        measured together, by default all. A target without batch norm comes back as it is.
        `TargetError` for no images.
        """
        if not self.has_batch_norm:
            return self
        if not len(images):
            raise TargetError("batch-norm statistics need at least one image")
        batches = images.tensor_split(-(-len(images) // batch_size))
        if self.theta.device.type == "cpu":  # as in a call
            return self._replaced(self.theta, self._statistics_loop(batches))
        return self._replaced(self.theta, self._statistics_vmap(batches, at_once))

    def _statistics_loop(self, batches: Sequence[Tensor]) -> dict[str, Tensor]:
        """The buffers of all networks after the batches, each [B,C,H,W]."""
        measured = list(
            concurrently(lambda index: self._statistics(index, batches), range(len(self)))
        )
        return {name: torch.stack([state[name] for state in measured]) for name in self.buffers}

    @torch.no_grad()
    def _statistics(self, index: int, batches: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same of network `index`."""
        module = self.module_at(index)
        for norm in _norms(module).values():
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        with FastCPU():
            for batch in batches:
                module(batch)
        return dict(module.named_buffers())

    @torch.no_grad()
    def _statistics_vmap(
        self, batches: Sequence[Tensor], at_once: int | None = None
    ) -> dict[str, Tensor]:
        """As `_statistics_loop`, `at_once` networks together, by default all."""
        module = copy.deepcopy(self._skeleton.module)
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        norms = _norms(module)
        for name, norm in norms.items():
            norm.train()
            for own, _ in norm.named_buffers():
                buffers[f"{name}.{own}"].zero_()
        forward = vmap(functools.partial(functional_call, module), in_dims=(0, None))
        for place, piece in self.pieces(at_once or len(self)):
            own = {name: buffer[place] for name, buffer in buffers.items()}
            tensors = self.layout.unflatten(piece.theta) | own
            for count, batch in enumerate(batches, 1):
                for norm in norms.values():
                    norm.momentum = 1 / count  # a plain average; None reads the count off the GPU
                forward(tensors, batch)  # which brings the buffers up to date
        return buffers

    def normalized_by_batch(self) -> Self:
        """The same networks, batch norm by the statistics of each call's own images.

        As in ordinary training, and for training alone: gradients reach the weights through the
        statistics too, and images influence each other. A target without batch norm comes back.
        """
        if not self.has_batch_norm:
            return self
        module = copy.deepcopy(self._skeleton.module)
        for norm in _norms(module).values():
            norm.train()
            norm.track_running_stats = False
        other = self._replaced(self.theta, self.buffers)
        other._skeleton = _PerThread(module)
        return other

    def bytes_kept(self, images: Tensor) -> int:
        """Bytes that a network keeps of images [N,C,H,W] for its backward pass; weights too.

        Nothing is computed: the skeleton's tensors have shapes and no numbers. And never twice: a
        training asks at every step, of populations just made.
        """
        about = (self.architecture, self.layout.fingerprint, images.shape, images.dtype)
        if about not in _BYTES_KEPT:
            storages: dict[int, torch.UntypedStorage] = {}  # several operations may keep the same

            def keep(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                storages[storage._cdata] = storage
                return tensor

            hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
            with torch.enable_grad(), hooks:
                self._skeleton.module(torch.empty_like(images, device="meta").requires_grad_())
            _BYTES_KEPT[about] = sum(storage.nbytes() for storage in storages.values())
        return _BYTES_KEPT[about]

    def pieces(self, size: int | None = None) -> Iterator[tuple[slice, Self]]:
        """The population in pieces that fit one evaluation: (their place, the piece).

        `size` networks a piece; by default one on a CPU (see `concurrently`), all elsewhere.
        """
        size = size or (1 if self.theta.device.type == "cpu" else len(self))
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            yield place, self[place]


class Ensemble:
    """P networks that vote as one: images [1,B,C,H,W] -> log of their mean soft-max, [1,B,K].

    It is evaluated and attacked as a population of one network is.
    """

    def __init__(self, members: Population):
        self.members = members

    def __len__(self) -> int:
        return 1

    def __call__(self, images: Tensor) -> Tensor:
        if len(images) != 1:
            raise TargetError(f"expected images [1,B,C,H,W], got {list(images.shape)}")
        logits = self.members(images.expand(len(self.members), *images.shape[1:]))
        return logits.log_softmax(-1).logsumexp(0, keepdim=True) - math.log(len(self.members))

    def to(self, device: torch.device) -> "Ensemble":
        """The same ensemble on another device."""
        return Ensemble(self.members.to(device))

    def pieces(self, size: int | None = None) -> Iterator[tuple[slice, Self]]:
        """It is one piece."""
        yield slice(0, 1), self


def concurrently(
    function: Callable[[T], R],
    items: Iterable[T],
    at_once: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[R]:
    """`function` of each item, in order; one item a core at a time, or `at_once` items.

    However it ends, it waits for what is still running; `stop` is set before that, for items so
    long that they had better look at it.

    Small networks do not fill several cores; several of them do. Each thread computes exactly what
    one core alone would, so results do not depend on how many run at once. Gradients are recorded
    where the caller records them.
    """
    cores, recording = torch.get_num_threads(), torch.is_grad_enabled()
    if (at_once or cores) == 1:
        for item in items:
            torch.set_num_threads(1)
            try:
                done = function(item)
            finally:
                torch.set_num_threads(cores)
            yield done
        return

    def run(item: T) -> R:  # both settings belong to a thread
        torch.set_num_threads(1)
        with torch.set_grad_enabled(recording):
            return function(item)

    workers = _workers.pool(at_once or cores)
    waiting: deque[Future[R]] = deque()
    try:
        waiting.extend(workers.submit(run, item) for item in items)
        while waiting:
            done = waiting[0].result()  # among those waited for until it is there
            waiting.popleft()
            yield done
    finally:
        if stop is not None:
            stop.set()
        for future in waiting:
            future.cancel()
        wait(waiting)
        torch.set_num_threads(cores)


class _Workers(threading.local):
    """The threads that work for one that calls, kept, and with them their copies of modules."""

    def __init__(self):  # called anew in every thread that looks
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def pool(self, size: int) -> ThreadPoolExecutor:
        """So many threads."""
        if size not in self._pools:
            # PyTorch gives a thread the number last told to any when it is first asked for it: now,
            # and not after `concurrently` has told it 1.
            self._pools[size] = ThreadPoolExecutor(size, initializer=torch.get_num_threads)
        return self._pools[size]


_workers = _Workers()


def jobs_at_once(device: torch.device) -> int | None:
    """On a GPU one, which may fill its memory; None, one a core, elsewhere."""
    return None if device.type == "cpu" else 1


class _PerThread(threading.local):
    """A module, of which every thread sees a copy of its own.

    A call swaps a module's tensors in place: two threads must never share one.
    """

    def __init__(self, module: nn.Module):  # called anew in every thread that looks
        self.module = copy.deepcopy(module)
        names = {id(tensor): name for name, tensor in _tensors(self.module)}
        # Where each tensor stands, shared ones more than once.
        holders: list[dict[str, Any]] = []
        for part in self.module.modules():
            holders += part._parameters, part._buffers
        self._places = [
            (holder, key, names[id(tensor)], tensor)
            for holder in holders
            for key, tensor in holder.items()
            if tensor is not None
        ]

    @functools.cached_property
    def printed(self) -> str:
        """The module in words, which take a millisecond to put together."""
        return repr(self.module)

    def call(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The module with other tensors, on images [B,C,H,W].

        As `functional_call`, which looks for every tensor anew and takes a sixth of a small
        network's forward pass.
        """
        try:
            for holder, key, name, _ in self._places:
                holder[key] = tensors[name]
            return self.module(images)
        finally:
            for holder, key, _, own in self._places:
                holder[key] = own


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer with its name, shared ones once."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def _of(index: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One network's tensors [*shape] of a population's [P, *shape]."""
    return {name: tensor[index] for name, tensor in tensors.items()}


def _copy_with(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `module` that has `tensors` in the place of its parameters and buffers."""
    memo = {
        id(old): nn.Parameter(tensors[name]) if isinstance(old, nn.Parameter) else tensors[name]
        for name, old in _tensors(module)
    }
    return copy.deepcopy(module, memo)


def _norms(module: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers that keep running statistics, by their names."""
    kind = nn.modules.batchnorm._BatchNorm
    layers = {name: part for name, part in module.named_modules() if isinstance(part, kind)}
    return {name: layer for name, layer in layers.items() if layer.track_running_stats}
