"""The value network V: estimates the measures of weight vectors, differentiably.

Every kind turns a population into *features*, differentiably in the weights, and features into one
estimate in [0,1] a measure. Features of measured networks are what the replay buffer keeps.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.catalog import VALUE_NETWORKS, call_by_name
from hypergen.errors import InputError, RunError
from hypergen.measures.base import Batch
from hypergen.runtime.batching import for_all
from targets import Population, WeightLayout

MARGINS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""By how much, relative to the spread of the logits, images should at least be right."""


class ValueNetwork(nn.Module, ABC):
    """Maps features [P,...] to estimates [P,M] in [0,1], one a measure."""

    @abstractmethod
    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,...], what V looks at; gradients reach `population.theta`."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M] in [0,1]."""

    def generator_objective(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], what the generator ascends: the estimates, or what rises with them."""
        return self(features)

    def loss(self, features: Tensor, measured: Tensor) -> Tensor:
        """The regression loss on features [P,...] against measured [P,M] in [0,1], a scalar.

        Binary cross-entropy: steep where an estimate near 0 or 1 is wrong. `RunError` for NaN.
        """
        return F.binary_cross_entropy(self.finite_estimates(features), measured)

    def finite_estimates(self, features: Tensor) -> Tensor:
        """The estimates [P,M]; `RunError` when they are none, for V has diverged."""
        estimates = self(features)
        if not estimates.isfinite().all():
            raise RunError("training diverged: the value network's estimates are NaN")
        return estimates

    def uncertainty(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], how far off the estimates may be; 0 where nobody can tell."""
        return torch.zeros_like(self(features))


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
        return F.mse_loss(self.finite_estimates(features), measured)


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


class SetValueNetwork(ValueNetwork):
    """Looks at what the network does: the mean over labelled images of a small shared MLP.

    An image's features are the log-probability and the margin of its true class. Margins are
    relative to the spread of the logits, so that larger logits alone do not look like robustness.
    Permutation-invariant over images (Zaheer et al. 2017).

    The first measure is estimated from the clean images and all others from the attacked ones:
    robust networks are less sure of clean images, and a generator whose V had found that out
    lowered clean margins for the sake of robustness, and so learned to hide from gradients.
    """

    def __init__(self, num_measures: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, num_measures)
        )

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,4], two features of the clean image and two of the attacked one."""
        clean = population(for_all(batch.images, population))
        attacked = population(batch.attacked)
        return torch.cat([_features(clean, batch.labels), _features(attacked, batch.labels)], -1)

    def forward(self, features: Tensor) -> Tensor:
        return self._logits(features).sigmoid().mean(1)

    def generator_objective(self, features: Tensor) -> Tensor:
        """The mean over images of the log of their share in the estimate, with margin.

        Unlike the estimate its log is steep where an image is far from right: on the estimates
        themselves generators gave up the hardest quarter of all images. And since V is fitted to
        right and wrong, which change at a margin of 0, it is flat beyond: so it is asked also what
        it would say were every margin smaller (`MARGINS`), or nothing would urge the generator to
        stay clear of the edge.
        """
        asked = [features - margin * features.new_tensor([0, 1, 0, 1]) for margin in MARGINS]
        return torch.stack([F.logsigmoid(self._logits(e)).mean(1) for e in asked]).mean(0)

    def _logits(self, features: Tensor) -> Tensor:
        """[P,B,4] -> [P,B,M], what each image adds to each estimate, before the sigmoid."""
        clean, attacked = features.chunk(2, -1)
        return torch.cat([self.layers(clean)[..., :1], self.layers(attacked)[..., 1:]], -1)


class EnsembleValueNetwork(ValueNetwork):
    """Several of one kind that differ in their start alone; how far they differ is a warning.

    Each is fitted for itself ("deep ensembles", Lakshminarayanan et al. 2017).
    """

    def __init__(self, members: Sequence[ValueNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,...], those of the first member, for all look at the same."""
        return self._all()[0].features(population, batch)

    def forward(self, features: Tensor) -> Tensor:
        return self.member_estimates(features).mean(0)

    def member_estimates(self, features: Tensor) -> Tensor:
        """[P,...] -> [N,P,M], the estimates of each of the N members."""
        return torch.stack([member(features) for member in self._all()])

    def generator_objective(self, features: Tensor) -> Tensor:
        return torch.stack([member.generator_objective(features) for member in self._all()]).mean(0)

    def loss(self, features: Tensor, measured: Tensor) -> Tensor:
        return torch.stack([member.loss(features, measured) for member in self._all()]).sum()

    def uncertainty(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], the standard deviation over members."""
        return self.member_estimates(features).std(0, correction=0)

    def _all(self) -> list[ValueNetwork]:
        return cast(list[ValueNetwork], list(self.members))


def _features(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [P,B,K], labels [B] -> [P,B,2]: log-probability and relative margin of the label."""
    index = labels.expand(len(logits), -1)[..., None]
    own = logits.gather(-1, index).squeeze(-1)
    rival = logits.scatter(-1, index, float("-inf")).amax(-1)
    spread = logits.std(-1).clamp_min(1e-6)
    return torch.stack([own - logits.logsumexp(-1), (own - rival) / spread], dim=-1)


@VALUE_NETWORKS.register("set")
def set_value_network(num_measures: int) -> ValueNetwork:
    """How a network behaves on clean and attacked images."""
    return SetValueNetwork(num_measures)


@VALUE_NETWORKS.register("mlp")
def flat_value_network(layout: WeightLayout, num_measures: int) -> ValueNetwork:
    """The flat weights, as published (Ballarin 2020)."""
    return FlatValueNetwork(layout.size, num_measures)


VALUE_NETWORKS.register("statistics")(StatisticsValueNetwork)
VALUE_NETWORKS.register("probe")(ProbeValueNetwork)


def build_value_network(
    kind: str,
    module: nn.Module,
    input_shape: tuple[int, int, int],
    num_measures: int,
    members: int = 1,
) -> ValueNetwork:
    """The value network of that name for the target `module`, several of it as an ensemble.

    A registered value network is a class or function that takes any of these by name: module,
    layout (its `WeightLayout`), input_shape (C,H,W), num_measures; it makes a `ValueNetwork`.

    Args:
        num_measures: M, figures that it estimates of each network.
        members: how many form an ensemble; with 1 there is none.

    Raises:
        InputError: an unknown name, or something that is no `ValueNetwork`.
    """
    layout = WeightLayout.of(module)

    def one() -> ValueNetwork:
        made = call_by_name(
            VALUE_NETWORKS.get(kind),
            module=module,
            layout=layout,
            input_shape=input_shape,
            num_measures=num_measures,
        )
        if not isinstance(made, ValueNetwork):
            raise InputError(f"the value network {kind} must be a ValueNetwork, got {made!r}")
        return made

    return one() if members == 1 else EnsembleValueNetwork([one() for _ in range(members)])
