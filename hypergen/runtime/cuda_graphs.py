"""Training steps captured on a GPU as CUDA graphs, and replayed.

A small network's step is hundreds of kernels that take longer to launch than to run; a graph of
them is launched at once. On a CPU, for inputs of another shape or type than the first ones, and
where something cannot be captured, functions are called as they are. `HYPERGEN_CUDA_GRAPHS=0` in
the environment captures nothing.
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


class CUDAGraphFunction:
    """A function of tensors to a sequence of tensors, with no gradients in or out.

    What it returns is good until the next call. It may change tensors of `state` in place and
    nothing else: to be captured it runs several times, after which these are put back.
    """

    def __init__(self, function: Function, state: nn.Module | None = None):
        self.function, self.state = function, state
        self.inputs: list[tuple[torch.Size, torch.dtype]] = []  # of what was captured
        self.replay: Function | None = None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        kinds = [(tensor.shape, tensor.dtype) for tensor in inputs]
        if not self.inputs and captures_on(inputs[0].device):
            static, self.inputs = [tensor.detach().clone() for tensor in inputs], kinds
            self.replay = captured(lambda: self._capture(*static), self.state)
        if self.replay is None or kinds != self.inputs:
            return self.function(*inputs)
        return self.replay(*inputs)

    def _capture(self, *static: Tensor) -> Function:
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


class CUDAGraphModel(CUDAGraphFunction):
    """A model, images [P,B,C,H,W] (and other tensors) to logits, that attacks differentiate.

    With respect to the images alone, and before the model is called again.
    """

    def __call__(self, *inputs: Tensor) -> Tensor:
        return super().__call__(*inputs)  # pyright: ignore

    def _capture(self, *static: Tensor) -> Function:
        images, *others = static
        return torch.cuda.make_graphed_callables(
            self.function, (images.requires_grad_(), *others), allow_unused_input=True
        )


class CUDAGraphPopulation(Population):
    """A population that answers through a captured model of images and theta, while it is whole."""

    def __init__(self, population: Population, model: CUDAGraphModel):
        self.__dict__.update(population.__dict__)
        self._model, self._whole = model, len(population)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu" or len(self) != self._whole or self._part is not None:
            return super().__call__(images)
        return self._model(images, self.theta)


def captures_on(device: torch.device) -> bool:
    """Whether functions are captured on this device."""
    return device.type == "cuda" and os.environ.get("HYPERGEN_CUDA_GRAPHS", "1") != "0"


def captured(capture: Callable[[], Function], state: nn.Module | None) -> Function | None:
    """Returns what `capture` makes, the numbers of `state` as before; None where it cannot.

    Python's garbage is not collected meanwhile: older graphs lie in cycles of references, and to
    free one spoils another that is being captured.
    """
    tensors = [] if state is None else [*state.parameters(), *state.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a graph is captured beside the usual stream
            # To which it goes back from here, for a capture that fails may stay where it was made.
            with torch.cuda.stream(torch.cuda.current_stream()):
                return capture()
    except RuntimeError as error:  # a synchronisation, say, which no graph can hold
        reason = str(error).partition("\n")[0]
        warnings.warn(f"not captured as a CUDA graph, and slower: {reason}", stacklevel=3)
        return None
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)
        if collects:
            gc.enable()
