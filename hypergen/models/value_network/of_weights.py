"""Value networks that look at weights alone: at each, at their statistics, at what they answer."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.catalog import VALUE_NETWORKS
from hypergen.measures.base import Batch
from hypergen.models.value_network.base import ValueNetwork
from targets import Population, WeightLayout


class FlatValueNetwork(ValueNetwork):
    """fc D-512-32-M on the flat weights, LeakyReLU .02, sigmoid (Ballarin 2020)."""

    def __init__(self, weights: int, num_measures: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(weights, 512),
            nn.LeakyReLU(0.02),
            nn.Linear(512, 32),
            nn.LeakyReLU(0.02),
            nn.Linear(32, num_measures),
            nn.Sigmoid(),
        )

    def features(self, population: Population, batch: Batch) -> Tensor:
        return population.theta

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

    def loss(self, features: Tensor, measured: Tensor) -> Tensor:
        return F.mse_loss(*self.known_pairs(features, measured))


@VALUE_NETWORKS.register("statistics")
class StatisticsValueNetwork(ValueNetwork):
    """Per-layer statistics of the weights -> MLP (Unterthiner et al. 2020).

    Of every named tensor, in units of 1/sqrt(fan-in): mean, standard deviation, least and greatest
    value and the quartiles. Blind to what the weights do together, and needs no data.
    """

    quantiles = (0.0, 0.25, 0.5, 0.75, 1.0)

    def __init__(self, layout: WeightLayout, num_measures: int):
        super().__init__()
        self.layout = layout
        features = len(layout.slots) * (2 + len(self.quantiles))
        self.layers = nn.Sequential(
            nn.Linear(features, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, num_measures),
            nn.Sigmoid(),
        )

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,F], F = 7 numbers a tensor."""
        theta = population.theta
        at = torch.tensor(self.quantiles, dtype=theta.dtype, device=theta.device)
        features = []
        for slot in self.layout.slots:
            weights = theta[:, slot.start : slot.stop] / slot.scale
            spread = weights.var(1, correction=0).clamp_min(1e-12).sqrt()
            features += [weights.mean(1), spread, *weights.quantile(at, dim=1)]
        return torch.stack(features, dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


@VALUE_NETWORKS.register("probe")
class ProbeValueNetwork(ValueNetwork):
    """What the network answers on images that are learned with V -> MLP ("probes").

    48 probe images in [0,1]; their soft-max outputs are the features, so no data are needed once V
    is fitted, not even for batch-norm statistics, which are those of the probes. Its features are
    the weights themselves, and every step of V evaluates all networks of its batch: some hundred
    times slower than `set`. Kahana et al. 2024 ("ProbeGen").
    """

    probes = 48

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], num_measures: int):
        super().__init__()
        self.target = [copy.deepcopy(module)]  # in a list, for it is no part of V's own weights
        self.images = nn.Parameter(torch.randn(self.probes, *input_shape))
        with torch.no_grad():
            classes = module.eval()(self.images.sigmoid()).shape[-1]
        self.layers = nn.Sequential(
            nn.Linear(self.probes * classes, 128),
            nn.SiLU(),
            nn.Linear(128, num_measures),
            nn.Sigmoid(),
        )

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,D], the weights."""
        return population.theta

    def forward(self, features: Tensor) -> Tensor:
        probes = self.images.sigmoid()
        population = Population(self.target[0], features).normalized_by_batch()
        images = probes.expand(len(features), *probes.shape)
        return self.layers(population(images).softmax(-1).flatten(1))


@VALUE_NETWORKS.register("mlp")
def flat_value_network(layout: WeightLayout, num_measures: int) -> ValueNetwork:
    """The flat weights, as published (Ballarin 2020)."""
    return FlatValueNetwork(layout.size, num_measures)
