"""P networks of one architecture, evaluated by one call."""

import contextlib
import copy
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from targets.batch_norm import measure_statistics, norm_layers
from targets.copies import copy_with, without_numbers
from targets.errors import TargetError, require_dense, require_initialized, told
from targets.fast_cpu import fast_where_safe
from targets.layout import WeightLayout
from targets.memory import Count, bytes_kept, bytes_live, counted, in_parts
from targets.parallel import max_workers, parallel_map
from targets.skeleton import Skeleton
from targets.structure import architecture
from targets.traits import WORST


class Population:
    """P weight vectors of one target; images [P,B,C,H,W] in [0,1] -> logits [P,B,K].

    Gradients flow to the images and to `theta`. Networks never influence each other. The target
    runs in evaluation mode: no dropout, batch norm with the statistics in `buffers`.

    It is indexed like a sequence: `population[3]` is a module with its own weights,
    `population[:8]` a population, and iterating gives one module after the other.

    Args:
        module: the target; its own weights are not used, its buffers are the default `buffers`.
        theta: [P,D] weights in the order of `WeightLayout.of(module)`.
        buffers: every named buffer of the target, `[P, *shape]`, one set a network (see
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
        self._part: int | None = None  # images seen at a time
        self.by_batch = False  # whether images influence each other
        self._skeleton = Skeleton(without_numbers(module).eval())

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Self:
        """The population of given networks. `TargetError` for none, or several architectures."""
        modules = list(modules)
        if not modules:
            raise TargetError("a population needs at least one network")
        for module in modules:
            if not isinstance(module, nn.Module):
                raise TargetError(f"a population is of modules, got a {type(module).__name__}")
            require_initialized(module, "a population")
        if len({architecture(module) for module in modules}) > 1:
            raise TargetError("a population needs networks of one architecture")
        layout = WeightLayout.of(modules[0])
        theta = torch.stack([layout.flatten(dict(m.named_parameters())) for m in modules]).detach()
        states = [dict(m.named_buffers()) for m in modules]
        buffers = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return cls(modules[0], theta, buffers)

    @property
    def architecture(self) -> str:
        """A digest of the target's structure, as `targets.architecture` gives it."""
        return self._skeleton.architecture

    @property
    def has_batch_norm(self) -> bool:
        """Whether the target has statistics to `recalibrate`."""
        return bool(norm_layers(self._skeleton.module))

    def __getstate__(self) -> dict[str, Any]:  # what is looked up again need not be copied
        return {**self.__dict__, "_networks": None}

    def __len__(self) -> int:
        return len(self.theta)

    @overload
    def __getitem__(self, index: int) -> nn.Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> nn.Module | Self:
        if isinstance(index, slice):
            if (index.step or 1) < 0:  # which tensors do not take
                return self.choose(range(len(self))[index])
            buffers = {name: buffer[index] for name, buffer in self.buffers.items()}
            return self.with_tensors(self.theta[index], buffers)
        number = range(len(self))[index]  # negative ones count from the end; or an IndexError
        with torch.inference_mode(False), torch.no_grad():  # it can be trained, whoever asks
            tensors = _network(number, self.layout.unflatten(self.theta.detach()) | self.buffers)
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            return copy_with(self._skeleton.module, tensors)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[index] for index in range(len(self)))

    def choose(self, indices: Tensor | Sequence[int]) -> Self:
        """The networks at `indices` [Q], in that order."""
        indices = torch.as_tensor(indices, dtype=torch.long, device=self.theta.device)
        buffers = {name: buffer[indices] for name, buffer in self.buffers.items()}
        return self.with_tensors(self.theta[indices], buffers)

    def with_theta(self, theta: Tensor) -> Self:
        """The same networks (architecture, buffers) with other weights [P,D]; or `TargetError`."""
        if not isinstance(theta, Tensor) or theta.shape != self.theta.shape:
            got = list(theta.shape) if isinstance(theta, Tensor) else type(theta).__name__
            raise TargetError(f"expected weights {list(self.theta.shape)}, got {got}")
        return self.with_tensors(theta, self.buffers)

    def with_tensors(self, theta: Tensor, buffers: dict[str, Tensor]) -> Self:
        """Networks of the same architecture with other weights [Q,D] and buffers `[Q, *shape]`."""
        other = copy.copy(self)
        other.theta, other.buffers, other._networks = theta, buffers, None
        return other

    def __call__(self, images: Tensor) -> Tensor:
        require_dense(images)
        if images.ndim != 5 or len(images) != len(self):
            raise TargetError(f"expected images [{len(self)},B,C,H,W], got {list(images.shape)}")
        if self._part is not None:
            return torch.cat(
                [
                    in_parts(chunk, images[which], self._part, dim=1)
                    for which, chunk in self.in_parts(None).chunks()
                ]
            )
        # Measured: on a CPU a loop beats vmap and grouped convolutions.
        if images.device.type == "cpu" or not self._skeleton.vmappable(images[0]):
            return self._loop(self._each(), images)
        return self._vmap(self._tensors(), images)

    def _loop(self, networks: Sequence[dict[str, Tensor]], images: Tensor) -> Tensor:
        found = self._skeleton.traits(images[0])
        works = found != WORST or torch.compiler.is_compiling()  # at the worst it failed when tried
        batches = [batch.clone() for batch in images] if found.changes_images else images
        with fast_where_safe(found), contextlib.nullcontext() if works else told(images[0]):
            pairs = zip(networks, batches, strict=True)
            logits = [self._skeleton.call(tensors, batch) for tensors, batch in pairs]
        if not isinstance(logits[0], Tensor):
            raise TargetError(
                f"expected the networks to answer with logits as one tensor, got a "
                f"{type(logits[0]).__name__}; select_output picks the logits"
            )
        return torch.stack(logits)

    def _vmap(self, tensors: dict[str, Tensor], images: Tensor) -> Tensor:
        forward = functools.partial(functional_call, self._skeleton.module)
        if self._skeleton.traits(images[0]).changes_images:
            images = images.clone()
        return vmap(forward, randomness="different")(tensors, images)

    def _tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer of all networks, [P, *shape] each."""
        return self.layout.unflatten(self.theta) | self.buffers

    def _each(self) -> list[dict[str, Tensor]]:
        """The same, network by network; looked up once, but that every call has its own graph."""
        if self._networks is not None and not self.theta.requires_grad:
            return self._networks
        tensors = self._tensors()
        networks = [_network(index, tensors) for index in range(len(self))]
        if not torch.is_inference_mode_enabled():  # what is made there serves nowhere else
            self._networks = networks
        return networks

    def to(self, device: torch.device | str | int) -> Self:
        """The same networks on another device."""
        buffers = {name: buffer.to(device) for name, buffer in self.buffers.items()}
        return self.with_tensors(self.theta.to(device), buffers)

    def recalibrate(
        self, images: Tensor, batch_size: int = 256, chunk_size: int | None = None
    ) -> Self:
        """The same networks with batch-norm statistics of training images [N,C,H,W].

        Weights decide what the statistics are, so these are measured after generation and never
        generated. They are averages over batches of near-equal size, at most `batch_size`; in one
        batch, the mean and unbiased variance over all images. `chunk_size` networks are measured
        together on a GPU, side by side on a CPU; by default all, one a core. A target without
        batch norm comes back as it is. `TargetError` for no images.
        """
        if not self.has_batch_norm:
            return self
        if not len(images):
            raise TargetError("batch-norm statistics need at least one image")
        batches = images.tensor_split(-(-len(images) // batch_size))
        with told(batches[0]):
            if self.theta.device.type == "cpu" or not self._skeleton.vmappable(batches[0]):
                statistics = self._statistics_loop(batches, chunk_size)  # as in a call
            else:
                statistics = self._statistics_vmap(batches, chunk_size)
        return self.with_tensors(self.theta, statistics)

    def _statistics_loop(
        self, batches: Sequence[Tensor], workers: int | None = None
    ) -> dict[str, Tensor]:
        """The buffers of all networks after the batches, each [B,C,H,W]."""

        def measure(index: int) -> dict[str, Tensor]:
            module = self[index]
            buffers = dict(module.named_buffers())
            with fast_where_safe(self._skeleton.traits(batches[0])):
                measure_statistics(module, buffers, module, batches)
            return buffers

        workers = workers or max_workers(self.theta.device)
        states = list(parallel_map(measure, range(len(self)), workers))
        return {name: torch.stack([state[name] for state in states]) for name in self.buffers}

    def _statistics_vmap(
        self, batches: Sequence[Tensor], chunk_size: int | None = None
    ) -> dict[str, Tensor]:
        """As `_statistics_loop`, `chunk_size` networks together, by default all."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        for network_slice, chunk in self.chunks(chunk_size or len(self)):
            module = copy.deepcopy(self._skeleton.module)
            own = {name: buffer[network_slice] for name, buffer in buffers.items()}
            forward = vmap(functools.partial(functional_call, module), in_dims=(0, None))
            tensors = self.layout.unflatten(chunk.theta) | own
            measure_statistics(module, own, functools.partial(forward, tensors), batches)
        return buffers

    def normalized_by_batch(self) -> Self:
        """The same networks, batch norm by the statistics of each call's own images.

        As in ordinary training, and for training alone: gradients reach the weights through the
        statistics too, and images influence each other. A target without batch norm comes back.
        """
        if not self.has_batch_norm:
            return self
        module = copy.deepcopy(self._skeleton.module)
        for norm in norm_layers(module).values():
            norm.train()
            norm.track_running_stats = False
        other = self.with_tensors(self.theta, self.buffers)
        other._skeleton, other.by_batch = Skeleton(module), True
        return other

    def in_parts(self, size: int | None) -> Self:
        """The same networks, which look at `size` images at a time, one network at a time on a CPU.

        For a gradient all is computed once more, and no more is kept than of one part. Images that
        influence each other, by batch norm, stay one part. None: all together, nothing twice.
        """
        other = self.with_tensors(self.theta, self.buffers)
        other._part = 2**62 if self.by_batch and size is not None else size
        return other

    def bytes_kept(self, images: Tensor) -> int:
        """Bytes that a network keeps of images [N,C,H,W] for its backward pass; weights too.

        Nothing is computed: its tensors have shapes and no numbers, except of a target that needs
        numbers to find its way. And never twice: a training asks at every step.
        """
        return self._counted(bytes_kept, images)

    def bytes_live(self, images: Tensor) -> int:
        """As `bytes_kept`: bytes that it makes and holds at once until a gradient is known."""
        return self._counted(bytes_live, images)

    def _counted(self, count: Count, images: Tensor) -> int:
        return counted(count, self.architecture, self._skeleton.module, images, lambda: self[0])

    def chunks(self, size: int | None = None) -> Iterator[tuple[slice, Self]]:
        """The population in chunks that fit one evaluation: (which networks, the chunk).

        `size` networks a chunk; by default one on a CPU (see `parallel_map`), all elsewhere.
        """
        size = size or (1 if self.theta.device.type == "cpu" else len(self))
        for start in range(0, len(self), size):
            network_slice = slice(start, min(start + size, len(self)))
            yield network_slice, self[network_slice]


def _network(index: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One network's tensors [*shape] of a population's [P, *shape]."""
    return {name: tensor[index] for name, tensor in tensors.items()}
