"""What every registered measure does with networks and images of any kind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.catalog import MEASURES
from hypergen.measures import Accuracy, LogitMeasure, Measure, measured, prepare_batch
from hypergen.models.value_network import build_value_network
from targets import Population
from tests.hypergen.measures.figures import figures, made, stage

NAMES = MEASURES.names()
QUICK = {"square": "square:queries=4", "union": "union:linf=0.05,l2=0.5,l1=2"}
TOGETHER = {"transfer"}
"""Measures of networks that depend on which are measured with them, two at least."""

Problem = tuple[Population, Tensor, Tensor]


def normed(channels: int, classes: int) -> nn.Module:
    """Small, with batch norm, on images of 10x8 pixels."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, classes),
    )


@pytest.fixture(params=["2 classes, grey", "3 classes, colour"])
def problem(request, device, dtype) -> Problem:
    """Three fresh networks and 12 images."""
    classes, channels = (2, 1) if "grey" in request.param else (3, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        modules = [normed(channels, classes).eval().to(device, dtype) for _ in range(3)]
        images = torch.rand(12, channels, 10, 8).to(device, dtype)
        labels = torch.randint(classes, (12,)).to(device)
    return Population.of(modules).recalibrate(images), images, labels


@pytest.fixture(params=NAMES)
def measure(request) -> Measure:
    return made(QUICK.get(request.param, request.param))


def test_one_number_in_range_for_each_network(measure, problem):
    population, images, labels = problem
    found = figures(measure, population, images, labels, seed=7)
    assert found.shape == (3,) and ((found >= 0) & (found <= 1)).all()
    assert figures(measure, population, images, labels, seed=7).equal(found)
    some = figures(measure, population[:2], images[:1], labels[:1])
    assert some.shape == (2,) and ((some >= 0) & (some <= 1)).all()


def test_packed_equals_alone(measure, problem):
    if measure.name in TOGETHER:
        pytest.skip("by what it is")
    population, images, labels = problem
    packed = figures(measure, population, images, labels, seed=7)
    for index in range(3):
        alone = figures(measure, population[index : index + 1], images, labels, seed=7)
        torch.testing.assert_close(alone, packed[index : index + 1], rtol=0, atol=1e-6)


def test_what_is_not_its_own_stays_as_it_was(measure, problem):
    population, images, labels = problem
    theta = population.theta.requires_grad_()
    kept = [theta, images, labels, *population.buffers.values()]
    before = [tensor.detach().clone() for tensor in kept]
    state = torch.get_rng_state()
    for mode in (torch.enable_grad(), torch.no_grad()):
        with mode:
            enabled = torch.is_grad_enabled()
            figures(measure, population, images, labels)
            assert torch.is_grad_enabled() == enabled
    assert torch.get_rng_state().equal(state)
    assert theta.grad is None and theta.requires_grad and not images.requires_grad
    assert all(tensor.equal(old) for tensor, old in zip(kept, before, strict=True))


def test_what_was_prepared_is_one_for_each_network_without_gradients(measure, problem):
    population, images, labels = problem
    population = population.with_theta(population.theta.clone().requires_grad_())
    batch = prepare_batch([measure], population, images, labels, stage())
    for made_of in batch.prepared.values():
        assert len(made_of) == 3 and not made_of.requires_grad and made_of.isfinite().all()
    whole = measured([measure], population, batch)
    for index in range(3):
        own = slice(index, index + 1)
        alone = measured([measure], population[own], batch.for_networks(own))
        torch.testing.assert_close(alone, whole[own], rtol=0, atol=1e-6)


def test_its_logits_decide_and_can_be_descended(measure, problem):
    if not isinstance(measure, LogitMeasure):
        pytest.skip("a black box has none")
    population, images, labels = problem
    theta = population.theta.clone().requires_grad_()
    population = population.with_theta(theta)
    batch = prepare_batch([measure], population, images, labels, stage())
    logits = measure.logits(population, batch)
    right = logits.argmax(-1) == labels
    assert measure.correct(population, batch).equal(right)
    assert measure(population, batch).equal(right.double().mean(1))
    losses = measure.surrogate_loss(population, batch)
    known = torch.stack([F.cross_entropy(each, labels) for each in logits])
    torch.testing.assert_close(losses, known)
    (gradient,) = torch.autograd.grad(losses.sum(), theta)
    assert gradient.isfinite().all() and gradient.any(1).all()


def test_a_value_network_has_a_gradient_for_it(measure, problem, device, dtype):
    population, images, labels = problem
    measures: tuple[Measure, ...] = (Accuracy(),)
    if measure.name != "accuracy":
        measures += (measure,)
    theta = population.theta.clone().requires_grad_()
    population = population.with_theta(theta)
    batch = prepare_batch(measures, population, images, labels, stage())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classes = population(images.expand(3, *images.shape)).shape[-1]
        value = build_value_network(
            "set",
            population[0],
            tuple(images.shape[1:]),
            classes,
            measures,  # pyright: ignore
        ).to(device, dtype)
    features = value.features(population, batch)
    estimates: Callable[[], Tensor] = lambda: value(features)[:, -1].sum()  # noqa: E731
    for objective in (estimates(), value.generator_objective(features)[:, -1].sum()):
        (gradient,) = torch.autograd.grad(objective, theta, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any(1).all()
