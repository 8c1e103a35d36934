"""Generators and value networks that a user brings."""

import pytest
import torch
from torch import Tensor, nn

from hypergen.catalog import GENERATORS, VALUE_NETWORKS
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measures import Batch
from hypergen.models.bundle import ModelBundle
from hypergen.models.generator import build_generator
from hypergen.models.latent import Latent
from hypergen.models.value_network import ValueNetwork, build_value_network
from targets import Population, WeightLayout
from tests.hypergen.batches import PAIR


class Shifts(nn.Module):
    """Base weights, and z times one vector."""

    def __init__(self, base_weights: Tensor, latent_size: int):
        super().__init__()
        self.base_weights = nn.Parameter(base_weights)
        self.directions = nn.Parameter(torch.randn(latent_size, len(base_weights)))

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        return self.base_weights + z @ self.directions


def test_a_registered_generator_gets_what_it_asks_for(register):
    register(GENERATORS, "shifts", Shifts)
    layout = WeightLayout.of(nn.Linear(20, 3))
    base_weights = torch.randn(layout.size)
    config = TrainConfig.of(generator="shifts", latent_size=3)
    generator = build_generator(config, layout, base_weights)
    assert isinstance(generator, Shifts) and generator.latent == Latent(3)
    z = torch.randn(5, 3)
    torch.testing.assert_close(
        generator(z, torch.rand(5)), base_weights + z @ generator.directions.detach()
    )


def test_a_registered_generator_may_have_a_latent_of_its_own(register):
    def uniform(base_weights: Tensor) -> nn.Module:
        generator = Shifts(base_weights, 2)
        generator.latent = Latent(2, uniform=True)
        return generator

    register(GENERATORS, "uniform", uniform)
    layout = WeightLayout.of(nn.Linear(20, 3))
    made = build_generator(TrainConfig.of(generator="uniform"), layout, torch.zeros(layout.size))
    assert made.latent == Latent(2, uniform=True)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: nn.Identity(), r"wrong fails on z \[2,16\] and preferences \[2\]: TypeError: "),
        (lambda: Latents.__new__(Latents), r"wrong: `Latents` must call super\(\).__init__"),
        (lambda: 3, "wrong must be a torch.nn.Module, got 3"),
        (lambda: Latents(), r"wrong must give weights \[2,61\], got \[2, 16\]"),
        (lambda: Lists(), r"wrong must give weights \[2,61\], got list"),
        (lambda size: nn.Identity(), "wants an argument size; it may take any of layout, "),
    ],
)
def test_a_registered_generator_that_makes_no_weights_is_refused(thing, message, register):
    register(GENERATORS, "wrong", thing)
    layout = WeightLayout.of(nn.Linear(60, 1))
    with pytest.raises(InputError, match=message) as caught:
        build_generator(TrainConfig.of(generator="wrong"), layout, torch.zeros(layout.size))
    assert "\n" not in str(caught.value)


class Latents(nn.Module):
    """Gives z itself."""

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        return z


class Lists(nn.Module):
    """Gives no tensor."""

    def forward(self, z: Tensor, beta: Tensor) -> list[Tensor]:
        return [z]


def test_an_unknown_generator_is_told_with_the_nearest():
    layout = WeightLayout.of(nn.Linear(20, 3))
    with pytest.raises(InputError, match=r'unknown generator "denes" \(did you mean "dense"\?\)'):
        build_generator(TrainConfig.of(generator="denes"), layout, torch.zeros(layout.size))


class Mean(ValueNetwork):
    """The mean of the weights, and how many there are."""

    def __init__(self, layout: WeightLayout, num_measures: int):
        super().__init__()
        self.layout, self.line = layout, nn.Linear(1, num_measures)

    def features(self, population: Population, batch: Batch) -> Tensor:
        return population.theta.mean(1, keepdim=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.line(features).sigmoid()


@pytest.mark.parametrize("members", [1, 2])
def test_a_registered_value_network_gets_what_it_asks_for(members, register, population):
    register(VALUE_NETWORKS, "mean", Mean)
    value = build_value_network("mean", population[0], (1, 28, 28), 10, PAIR, members)
    for each in [value] if isinstance(value, Mean) else value.members:
        assert isinstance(each, Mean) and each.layout == population.layout
    images = torch.rand(4, 1, 28, 28)
    batch = Batch(images, torch.arange(4), {"robustness": images.expand(3, *images.shape)})
    features = value.features(population, batch)
    assert value(features).shape == (3, 2)
    value.loss(features, torch.rand(3, 2)).backward()
    assert all(parameter.grad is not None for parameter in value.parameters())
    assert value.generator_objective(features).equal(value(features))


def test_what_is_no_value_network_is_refused(register):
    register(VALUE_NETWORKS, "plain", lambda num_measures: nn.Linear(3, num_measures))
    with pytest.raises(InputError, match="the value network plain must be a ValueNetwork, got Lin"):
        build_value_network("plain", nn.Linear(3, 2), (1, 28, 28), 10, PAIR)
    register(VALUE_NETWORKS, "unset", lambda: Mean.__new__(Mean))
    with pytest.raises(InputError, match="the value network unset: `Mean` must call super"):
        build_value_network("unset", nn.Linear(3, 2), (1, 28, 28), 10, PAIR)
    register(VALUE_NETWORKS, "greedy", lambda dataset: None)
    with pytest.raises(InputError, match="wants an argument dataset; it may take any of module, "):
        build_value_network("greedy", nn.Linear(3, 2), (1, 28, 28), 10, PAIR)


def test_an_unknown_value_network_is_told_with_the_nearest():
    message = r'unknown value network "statistic" \(did you mean "statistics"\?\)'
    with pytest.raises(InputError, match=message):
        build_value_network("statistic", nn.Linear(3, 2), (1, 28, 28), 10, PAIR)


def test_a_run_is_made_of_what_was_registered(register, tiny, digits):
    register(GENERATORS, "shifts", Shifts)
    register(VALUE_NETWORKS, "mean", Mean)
    config = tiny.replace(generator="shifts", value_network="mean", latent_size=3)
    models = ModelBundle.fresh(config, digits.info)
    assert isinstance(models.generator, Shifts) and isinstance(models.value, Mean)
    start = WeightLayout.of(models.target).flatten(models.target.state_dict())
    assert models.ema(torch.zeros(1, 3), torch.zeros(1))[0].equal(start)
