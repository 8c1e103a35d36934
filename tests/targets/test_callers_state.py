"""Whatever modes and default type are in force, numbers are the same, and nothing is moved."""

import pytest
import torch

from targets import Ensemble, Population, build
from tests.targets.modules import Normed

IMAGES = torch.rand(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def everything() -> torch.Tensor:
    population = Population.of(Normed(seed) for seed in range(2)).recalibrate(IMAGES[0])
    population.bytes_kept(IMAGES[0])
    chosen = population[:1].choose([0, 0])
    assert torch.equal(chosen(IMAGES)[0], population(IMAGES)[0])
    torch.testing.assert_close(population[0](IMAGES[0]), population(IMAGES)[0])
    return population(IMAGES)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes(mode):
    with mode():
        logits = everything()
    torch.testing.assert_close(logits.clone(), everything(), rtol=0, atol=0)


@pytest.mark.parametrize("made", [torch.no_grad, torch.inference_mode])
def test_gradients_of_what_was_first_called_without(made):
    population = Population.of(Normed(seed) for seed in range(2))
    with made():
        logits = population(IMAGES)
    images = IMAGES.clone().requires_grad_()
    again = population(images)
    torch.autograd.grad(again.sum(), images)
    assert torch.equal(again, logits)


def test_default_dtype_while_called(doubles):
    torch.set_default_dtype(torch.float32)
    population = Population.of(build("mlp", input_shape=(1, 4, 4)) for _ in range(2))
    network = population[0]
    torch.set_default_dtype(torch.float64)
    images = IMAGES[..., :4, :4]
    assert population(images).dtype == network(images[0]).dtype == torch.float32
    assert Ensemble(population)(images[0]).dtype == torch.float32


@pytest.mark.parametrize("activation", ["relu", "kaf", "kaf-elu", "kaf-free", "kwta-0.2"])
def test_default_dtype_while_built(activation, doubles):
    modules = [build("light-cnn", activation, input_shape=(1, 8, 8)) for _ in range(2)]
    images = torch.rand(2, 3, 1, 8, 8)
    population = Population.of(modules).recalibrate(images[0])
    assert {tensor.dtype for tensor in population[0].parameters()} == {torch.float64}
    logits = population(images)
    torch.testing.assert_close(logits[1], population[1](images[1]))
    assert logits.dtype == Ensemble(population)(images[0]).dtype == torch.float64


def test_nothing_is_moved():
    population = Population.of(Normed(seed) for seed in range(2))
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    population.recalibrate(IMAGES[0])(IMAGES)
    population.bytes_kept(IMAGES[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[1:]
    assert torch.get_default_dtype() == torch.float32
