"""Batch norm: statistics are measured, averaged and frozen."""

import pytest
import torch
from torch import nn

from targets import Population, build
from tests.targets.modules import Normed


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def two() -> Population:
    return Population.of(Normed(seed) for seed in range(2))


def test_statistics_are_those_of_the_images(device):
    images = IMAGES.to(device)
    population = two().to(device).recalibrate(images)
    for index in range(2):
        before = population[index].stem(images).transpose(0, 1).flatten(1)
        mean, var = (
            population.buffers["norm.running_mean"],
            population.buffers["norm.running_var"],
        )
        torch.testing.assert_close(mean[index], before.mean(1))
        torch.testing.assert_close(var[index], before.var(1))


def test_deeper_statistics_are_taken_behind_normalised_layers():
    population = two().recalibrate(IMAGES)
    module = population[0]
    seen = []
    module.norm1d.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module.norm.train()(module.stem(IMAGES))  # normalises by the batch, as then
    module(IMAGES)
    torch.testing.assert_close(population.buffers["norm1d.running_mean"][0], seen[0].mean(0))
    torch.testing.assert_close(population.buffers["norm1d.running_var"][0], seen[0].var(0))


def test_several_batches_are_averaged():
    population = two().recalibrate(IMAGES, batch_size=4)
    before = population[1].stem(IMAGES)
    var = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in before.split(4)])
    torch.testing.assert_close(population.buffers["norm.running_mean"][1], before.mean((0, 2, 3)))
    torch.testing.assert_close(population.buffers["norm.running_var"][1], var.mean(0))


@pytest.mark.parametrize("chunk_size", [None, 1, 2])
@pytest.mark.parametrize("batch_size", [256, 4])
def test_together_they_are_the_same(device, batch_size, chunk_size):
    population = Population.of(Normed(seed) for seed in range(3)).to(device)
    images = IMAGES.to(device)
    used = population.recalibrate(images * 0.5)  # old statistics are forgotten here too
    batches = images.split(batch_size)
    looped, together = used._statistics_loop(batches), used._statistics_vmap(batches, chunk_size)
    assert looped.keys() == together.keys()
    for name, buffer in looped.items():
        torch.testing.assert_close(buffer, together[name], msg=name)


def test_no_batch_of_one():
    """Which batch norm behind a dense layer could not take: 13 images are 4, 3, 3, 3."""
    images = torch.cat([IMAGES, IMAGES[:1]])
    population = two().recalibrate(images, batch_size=4)
    assert population.buffers["norm1d.num_batches_tracked"].tolist() == [4, 4]


def test_old_statistics_are_forgotten():
    population = two()
    once = population.recalibrate(IMAGES)
    twice = population.recalibrate(IMAGES * 0.5).recalibrate(IMAGES)
    for name, buffer in once.buffers.items():
        assert torch.equal(buffer, twice.buffers[name])
    assert torch.equal(population.buffers["norm.running_var"], torch.ones(2, 4))


def test_frozen_in_evaluation():
    population = two().recalibrate(IMAGES)
    before = {name: buffer.clone() for name, buffer in population.buffers.items()}
    images = torch.rand(2, 5, 1, 6, 6)
    together = population(images)
    for i in range(5):
        torch.testing.assert_close(population(images[:, i : i + 1])[:, 0], together[:, i])
    for name, buffer in population.buffers.items():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("way", ["_loop", "_vmap"])
def test_by_batch_it_is_ordinary_training(device, way):
    double = Population.of(Normed(seed).double() for seed in range(2)).to(device)
    population = double.recalibrate(IMAGES.to(device).double())
    before = {name: buffer.clone() for name, buffer in population.buffers.items()}
    images = torch.rand(2, 5, 1, 6, 6, dtype=torch.double, device=device, requires_grad=True)
    theta = population.theta.clone().requires_grad_()
    learners = population.with_theta(theta).normalized_by_batch()
    tensors = learners._each() if way == "_loop" else learners._tensors()
    found = getattr(learners, way)(tensors, images)
    by_theta, by_images = torch.autograd.grad(found.square().sum(), (theta, images))
    for i in range(2):
        module, own = population[i].train(), images[i].detach().requires_grad_()
        logits = module(own)
        logits.square().sum().backward()
        grads = [p.grad.flatten() for p in module.parameters()]
        torch.testing.assert_close(found[i], logits)
        torch.testing.assert_close(by_theta[i], torch.cat(grads))
        torch.testing.assert_close(by_images[i], own.grad)
    for name, buffer in population.buffers.items():
        assert torch.equal(buffer, before[name])  # nor is anything measured on the way
    after = population(images)
    torch.testing.assert_close(population[0](images[0]), after[0])


def test_follows_the_population():
    population = two().recalibrate(IMAGES)
    images = torch.rand(2, 5, 1, 6, 6)
    logits = population(images)
    assert torch.equal(population.with_theta(population.theta)(images), logits)
    torch.testing.assert_close(population._vmap(population._tensors(), images), logits)
    for network_slice, chunk in population.chunks():
        assert torch.equal(chunk(images[network_slice]), logits[network_slice])
    module = Normed(5)
    module.load_state_dict(population[1].state_dict(), strict=True)
    torch.testing.assert_close(module.eval()(images[1]), logits[1])


def test_target_without_it_comes_back():
    population = Population.of(build("mlp", input_shape=(1, 4, 4)) for _ in range(2))
    assert population.recalibrate(torch.rand(4, 1, 4, 4)) is population
    assert population.normalized_by_batch() is population


def test_without_a_count_of_the_batches():
    """As in files of before PyTorch 1.0; the statistics are the same."""
    modules = [Normed(seed) for seed in range(2)]
    for module in modules:
        for norm in (module.norm, module.norm1d):
            norm.num_batches_tracked = None
    counted = two().recalibrate(IMAGES, batch_size=4)
    for measured in (
        Population.of(modules).recalibrate(IMAGES, batch_size=4).buffers,
        Population.of(modules)._statistics_vmap(IMAGES.split(4)),
    ):
        assert measured.keys() == {n for n in counted.buffers if "num_batches" not in n}
        for name, buffer in measured.items():
            torch.testing.assert_close(buffer, counted.buffers[name])


@pytest.mark.parametrize("way", ["_statistics_loop", "_statistics_vmap"])
def test_a_layer_that_is_called_twice_averages_over_both_calls(way):
    norm = nn.BatchNorm2d(1)
    population = Population.of([nn.Sequential(norm, nn.Hardtanh(0, 0.5), norm, nn.Flatten())])
    first = IMAGES.mean()
    second = ((IMAGES - first) / (IMAGES.var(correction=0) + norm.eps).sqrt()).clamp(0, 0.5).mean()
    measured = getattr(population, way)([IMAGES])["0.running_mean"]
    torch.testing.assert_close(measured, (first + second).view(1, 1) / 2)


@pytest.mark.parametrize("way", ["_statistics_loop", "_statistics_vmap"])
def test_a_target_that_is_nothing_else(way):
    population = Population.of([nn.BatchNorm2d(1)])
    measured = getattr(population, way)([IMAGES])
    torch.testing.assert_close(measured["running_mean"], IMAGES.mean().view(1, 1))


def test_layers_without_statistics_are_left_alone():
    module = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten())
    population = Population.of([module])
    assert not population.has_batch_norm and population.recalibrate(IMAGES) is population
    torch.testing.assert_close(population(IMAGES[None])[0], module.eval()(IMAGES))
