"""Captured functions against the plain ones: on a CPU the very same, on a GPU replayed."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hypergen.runtime.cuda_graphs import (
    CUDAGraphFunction,
    CUDAGraphModel,
    CUDAGraphPopulation,
    captured,
    captures_on,
)
from targets import Population, build


def squares(device: torch.device) -> tuple[Callable[..., list[Tensor]], list[int]]:
    calls: list[int] = []

    def function(a: Tensor, b: Tensor) -> list[Tensor]:
        calls.append(len(a))
        return [a.square() + b, (a * b).sum()]

    return function, calls


def numbers(count: int, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, count, generator=rng).to(device)
    return a, b


def test_of_new_inputs_it_is_the_function_of_these(device):
    function, calls = squares(device)
    graphed = CUDAGraphFunction(function)
    for seed, count in enumerate((5, 5, 3, 5)):  # three are computed the ordinary way
        inputs = numbers(count, device, seed)
        for found, expected in zip(graphed(*inputs), function(*inputs), strict=True):
            torch.testing.assert_close(found, expected)
    # Those expected, and one a call; or four to capture, and one for the other shape.
    assert len(calls) == 4 + (4 if device.type == "cpu" else 4 + 1)


def test_inputs_of_another_type_are_not_rounded_to_the_first_ones(device):
    """A graph computes in the type that it was captured with."""
    graphed = CUDAGraphFunction(lambda a: [a * a])
    single = torch.full((3,), 1 / 3, device=device)
    assert graphed(single)[0].dtype == torch.float32
    double = torch.full((3,), 1 / 3, dtype=torch.float64, device=device)
    assert graphed(double)[0].equal(double * double)
    assert graphed(single)[0].dtype == torch.float32


def test_a_capture_leaves_the_state_as_it_was(device):
    """A batch norm in training counts its batches: captured, it is called several times."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    plain.load_state_dict(module.state_dict())
    graphed = CUDAGraphFunction(lambda x: [module(x).detach()], module)
    for seed in range(3):
        x = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed)).to(device)
        torch.testing.assert_close(graphed(x)[0], plain(x).detach())
    assert int(module[1].num_batches_tracked) == 3
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor)


def test_a_population_is_differentiated_as_without(device):
    torch.manual_seed(0)
    population = Population.of(build("mlp", input_shape=(1, 4, 4)) for _ in range(3)).to(device)
    model = CUDAGraphModel(lambda images, theta: population.with_theta(theta)(images))
    for factor in (1.0, 0.5):
        plain = population.with_theta(factor * population.theta)
        images = torch.rand(3, 5, 1, 4, 4, device=device)
        found = []
        for answers in (plain, CUDAGraphPopulation(plain, model)):
            points = images.clone().requires_grad_()
            logits = answers(points)
            (gradient,) = torch.autograd.grad(logits.square().sum(), points)
            found.append((logits.detach().clone(), gradient.clone()))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)
    part = CUDAGraphPopulation(plain, model)[1:2]  # of which there is no graph
    torch.testing.assert_close(part(images[1:2])[0], plain(images)[1])


def test_what_cannot_be_captured_is_called_and_told(device, recwarn):
    graphed = CUDAGraphFunction(lambda x: [x * float(x.sum())])  # a GPU would have to be waited for
    x = torch.ones(2, device=device)
    assert graphed(x)[0].tolist() == graphed(x)[0].tolist() == [2, 2]
    told = [str(warning.message) for warning in recwarn]
    assert len(told) == (device.type == "cuda")
    assert all(message.startswith("not captured as a CUDA graph") for message in told)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_collected_during_a_capture(fails, monkeypatch, recwarn):
    """Where there is no GPU there is no stream to go back to."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    collects, state = [], nn.Linear(1, 1)
    before = state.weight.item()

    def capture() -> Callable[[], str]:
        collects.append(gc.isenabled())
        state.weight.data.add_(1)
        if fails:
            raise RuntimeError("as a capture may\nfail")
        return lambda: "made"

    made = captured(capture, state)
    assert made is None if fails else made is not None and made() == "made"
    assert collects == [False] and gc.isenabled() and state.weight.item() == before
    # What earlier tests left open is collected here, and may warn.
    own = [warning for warning in recwarn if warning.category is not ResourceWarning]
    told = [str(warning.message) for warning in own]
    assert [message.endswith("as a capture may") for message in told] == [True] * fails


@pytest.mark.parametrize(("wanted", "on_a_gpu"), [("1", True), ("0", False)])
def test_when_it_captures(wanted, on_a_gpu, monkeypatch):
    monkeypatch.setenv("HYPERGEN_CUDA_GRAPHS", wanted)
    assert captures_on(torch.device("cuda")) == on_a_gpu
    assert not captures_on(torch.device("cpu"))
