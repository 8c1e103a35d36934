"""Training steps recorded on a GPU and replayed, as CUDA graphs.

A small network's step is hundreds of kernels that take longer to launch than to run; a recorded one
is launched at once. On a CPU, for inputs of another shape than the first ones, and where something
cannot be recorded, functions are called as they are. `HYPERGEN_CUDA_GRAPHS=0` in the environment
records nothing.
"""

import gc
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from targets import Population

Function = Callable[..., Any]


class Recorded:
    """A function of tensors to a sequence of tensors, with no gradients in or out.

    What it gives is good until the next call. It may change tensors of `state` in place and nothing
    else: to be recorded it runs several times, after which these are put back.
    """

    def __init__(self, function: Function, state: nn.Module | None = None):
        self.function, self.state = function, state
        self.shapes: list[torch.Size] = []  # of what was recorded
        self.replay: Function | None = None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        shapes = [tensor.shape for tensor in inputs]
        if not self.shapes and records(inputs[0].device):
            static, self.shapes = [tensor.detach().clone() for tensor in inputs], shapes
            self.replay = recording(lambda: self._record(*static), self.state)
        if self.replay is None or shapes != self.shapes:
            return self.function(*inputs)
        return self.replay(*inputs)

    def _record(self, *static: Tensor) -> Function:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their kernels
                self.function(*static)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self.function(*static)

        def replay(*inputs: Tensor) -> Sequence[Tensor]:
            for own, given in zip(static, inputs, strict=True):
                own.copy_(given)
            graph.replay()
            return outputs

        return replay


class RecordedModel(Recorded):
    """A model, images [P,B,C,H,W] (and other tensors) to logits, that attacks differentiate.

    With respect to the images alone, and before the model is called again.
    """

    def __call__(self, *inputs: Tensor) -> Tensor:
        return super().__call__(*inputs)  # pyright: ignore

    def _record(self, *static: Tensor) -> Function:
        images, *others = static
        return torch.cuda.make_graphed_callables(
            self.function, (images.requires_grad_(), *others), allow_unused_input=True
        )


class RecordedPopulation(Population):
    """A population that answers through a recorded model of images and theta, while it is whole."""

    def __init__(self, population: Population, model: RecordedModel):
        self.__dict__.update(population.__dict__)
        self._model, self._whole = model, len(population)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu" or len(self) != self._whole:
            return super().__call__(images)
        return self._model(images, self.theta)


def records(device: torch.device) -> bool:
    """Whether functions are recorded on this device."""
    return device.type == "cuda" and os.environ.get("HYPERGEN_CUDA_GRAPHS", "1") != "0"


def recording(record: Callable[[], Function], state: nn.Module | None) -> Function | None:
    """What `record` makes, the numbers of `state` as before; None where it cannot.

    Nothing is collected meanwhile: older recordings lie in cycles of references, and to free one
    spoils another that is being made.
    """
    tensors = [] if state is None else [*state.parameters(), *state.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a recording is made beside the usual stream
            # To which it goes back from here, for one that fails may stay where it was made.
            with torch.cuda.stream(torch.cuda.current_stream()):
                return record()
    except RuntimeError as error:  # a synchronisation, say, which no graph can hold
        print(f"not recorded as a CUDA graph: {error}".splitlines()[0])
        return None
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)
        if collects:
            gc.enable()
