"""Recorded functions against the plain ones: on a CPU the very same, on a GPU replayed."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hypergen.cuda_graphs import (
    Recorded,
    RecordedModel,
    RecordedPopulation,
    recording,
    records,
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
    recorded = Recorded(function)
    for seed, count in enumerate((5, 5, 3, 5)):  # three are computed the ordinary way
        inputs = numbers(count, device, seed)
        for found, expected in zip(recorded(*inputs), function(*inputs), strict=True):
            torch.testing.assert_close(found, expected)
    # Those expected, and one a call; or four to record, and one for the other shape.
    assert len(calls) == 4 + (4 if device.type == "cpu" else 4 + 1)


def test_the_recording_leaves_the_state_as_it_was(device):
    """A batch norm in training counts its batches: recorded, it is called several times."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    plain.load_state_dict(module.state_dict())
    recorded = Recorded(lambda x: [module(x).detach()], module)
    for seed in range(3):
        x = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed)).to(device)
        torch.testing.assert_close(recorded(x)[0], plain(x).detach())
    assert int(module[1].num_batches_tracked) == 3
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor)


def test_a_population_is_differentiated_as_without(device):
    torch.manual_seed(0)
    population = Population.of(build("mlp", input_shape=(1, 4, 4)) for _ in range(3)).to(device)
    model = RecordedModel(lambda images, theta: population.with_theta(theta)(images))
    for factor in (1.0, 0.5):
        plain = population.with_theta(factor * population.theta)
        images = torch.rand(3, 5, 1, 4, 4, device=device)
        found = []
        for answers in (plain, RecordedPopulation(plain, model)):
            points = images.clone().requires_grad_()
            logits = answers(points)
            (gradient,) = torch.autograd.grad(logits.square().sum(), points)
            found.append((logits.detach().clone(), gradient.clone()))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)
    part = RecordedPopulation(plain, model)[1:2]  # of which there is no recording
    torch.testing.assert_close(part(images[1:2])[0], plain(images)[1])


def test_what_cannot_be_recorded_is_called(device, capsys):
    recorded = Recorded(lambda x: [x * float(x.sum())])  # a GPU would have to be waited for
    x = torch.ones(2, device=device)
    assert recorded(x)[0].tolist() == recorded(x)[0].tolist() == [2, 2]
    said = capsys.readouterr().out
    assert said.startswith("not recorded as a CUDA graph: ") == (device.type == "cuda")


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_collected_while_it_records(fails, monkeypatch, capsys):
    """Where there is no GPU there is no stream to go back to."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    collects, state = [], nn.Linear(1, 1)
    before = state.weight.item()

    def record() -> Callable[[], str]:
        collects.append(gc.isenabled())
        state.weight.data.add_(1)
        if fails:
            raise RuntimeError("as a capture may")
        return lambda: "made"

    made = recording(record, state)
    assert made is None if fails else made is not None and made() == "made"
    assert collects == [False] and gc.isenabled() and state.weight.item() == before
    assert ("as a capture may" in capsys.readouterr().out) == fails


@pytest.mark.parametrize(("wanted", "on_a_gpu"), [("1", True), ("0", False)])
def test_when_it_records(wanted, on_a_gpu, monkeypatch):
    monkeypatch.setenv("HYPERGEN_CUDA_GRAPHS", wanted)
    assert records(torch.device("cuda")) == on_a_gpu
    assert not records(torch.device("cpu"))
