"""Fits the value network to what is measured on generated and perturbed networks.

With the budget `active`, dear measures are taken of those networks only that an ensemble of value
networks disagrees on most ("query by committee", Seung et al. 1992).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hypergen.config import ValueNetworkConfig
from hypergen.measures import Batch, Measure, Stage, answered, measured, prepare_batch
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.batching import map_networks
from hypergen.runtime.exchange import gathered, own, share
from hypergen.runtime.precision import full_precision
from hypergen.storage.checkpoint import load_optimizer
from hypergen.training.replay_buffer import ReplayBuffer
from targets import Population

StageOf = Callable[[int], Stage]
"""Gives the stage of now with a seed."""
BATCH = 64
"""Measurements in a step of V."""
PRETRAINING_STEPS = 500
SHOWN_NETWORKS = 128
"""How many of the networks measured last `scores` gives."""
PERTURBATIONS = 0.03, 3.0
"""Least and greatest size of a perturbation, relative to a layer's typical weight."""


class ValueFitter:
    """The value network V, its optimiser, and the measurements that it is fitted to.

    Args:
        settings: how it is fitted.
        value: V, already on its device.
        measures: what it estimates.
        scales: [D], the typical size of each weight.
        population_of: weight vectors [P,D] -> networks ready to be measured.
        rng: the run's generator, which decides everything random.
    """

    def __init__(
        self,
        settings: ValueNetworkConfig,
        value: ValueNetwork,
        measures: Sequence[Measure],
        scales: Tensor,
        population_of: Callable[[Tensor], Population],
        rng: torch.Generator,
    ):
        self.settings, self.value, self.measures = settings, value, measures
        self.scales = scales
        self.population_of, self.rng = population_of, rng
        self.replay = ReplayBuffer(settings.replay_size)
        self.optimizer = torch.optim.Adam(
            value.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def fit(
        self, theta: Tensor, population: Population, batch: Batch, stage: StageOf
    ) -> dict[str, float]:
        """Measures the networks, and a few perturbed ones, and fits V to all in the replay.

        theta: [P,D], the weights of all networks; population: those that are this rank's; batch:
        images prepared for these; stage: at which those of the perturbed ones are.
        """
        near = self.perturb_weights(theta[: self.settings.num_perturbed])
        counts = len(theta), len(near)
        groups = [(population, answered(self.measures, population, batch))]
        groups += self.perturbed_group(near, batch, stage)
        features = gathered(torch.cat([self.features(*group) for group in groups]), *counts)
        chosen = own(self.choose(features), *counts).split([len(each) for each, _ in groups])
        each = [self.measure(*group, some) for group, some in zip(groups, chosen, strict=True)]
        figures = gathered(torch.cat(each), *counts)
        self.replay.add(features, figures)
        metrics = {"value_loss": self.take_steps(self.settings.steps)}
        with torch.no_grad():
            estimated = self.value(features[: len(theta)])
        return metrics | self.means(figures[: len(theta)], estimated)

    def perturbed_group(
        self, near: Tensor, batch: Batch, stage: StageOf
    ) -> list[tuple[Population, Batch]]:
        """This rank's share of the perturbed weights [Q,D] as networks, with a batch for them.

        Empty where there is none: there may be fewer than ranks.
        """
        if not len(near):
            return []
        prepared_at = stage(draw_seed(self.rng))  # drawn on every rank
        near = near[share(len(near))]
        if not len(near):
            return []
        networks = self.population_of(near)
        prepared = prepare_batch(self.measures, networks, batch.images, batch.labels, prepared_at)
        return [(networks, answered(self.measures, networks, prepared))]

    def means(self, figures: Tensor, estimated: Tensor) -> dict[str, float]:
        """The means of figures [P,M] and of their estimates, over what was measured alone."""
        means = {}
        for kind, values in (("measured", figures), ("estimated", estimated)):
            known = values.masked_fill(figures.isnan(), math.nan).nanmean(0).tolist()
            means |= {
                f"{kind}/{measure.name}": mean
                for measure, mean in zip(self.measures, known, strict=True)
                if not math.isnan(mean)
            }
        return means

    def pretrain(
        self, theta: Tensor, images: Tensor, labels: Tensor, stage: StageOf, steps: int
    ) -> None:
        """Fits V to networks of weights [P,D] before the first step of the generator."""
        population = self.population_of(theta)
        prepared = self.prepare(population, images, labels, stage)
        batch = answered(self.measures, population, prepared)
        features = self.features(population, batch)
        self.replay.add(features, measured(self.measures, population, batch))
        self.take_steps(steps)

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: StageOf
    ) -> Batch:
        """The images [B,C,H,W] with what the measures need of these networks."""
        seeded = stage(draw_seed(self.rng))
        return prepare_batch(self.measures, population, images, labels, seeded)

    def perturb_weights(self, theta: Tensor) -> Tensor:
        """Weight vectors around others [P,D], some near, some far (log-uniform).

        What V has learned of bad networks keeps its estimates true when the generator goes astray.
        """
        least, greatest = PERTURBATIONS
        sizes = least * (greatest / least) ** torch.rand(len(theta), 1, generator=self.rng)
        noise = (sizes * torch.randn(theta.shape, generator=self.rng)).to(theta.device)
        return theta + self.scales * noise

    def take_steps(self, count: int) -> float:
        """Steps of V on batches of the replay; the last loss."""
        loss = torch.zeros(())
        for _ in range(count):
            features, figures = self.replay.draw(BATCH, self.rng)
            loss = self.value.loss(features, figures)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return float(loss.detach())

    @full_precision()
    @torch.no_grad()
    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,...], what V looks at."""

        def extract(network_slice: slice, chunk: Population) -> Tensor:
            return self.value.features(chunk, batch.for_networks(network_slice))

        return torch.cat(map_networks(extract, population, batch.images))

    @torch.no_grad()
    def choose(self, features: Tensor) -> Tensor:
        """bool [P] on the CPU, the networks, of features [P,...], to take dear measures of.

        All of them, or the half, rounded down, that V is least sure of; but always one.
        """
        if self.settings.measure_budget == "all":
            return torch.ones(len(features), dtype=torch.bool)
        dear = [measure.is_dear for measure in self.measures]
        unsure = self.value.uncertainty(features)[:, dear].sum(1).cpu()
        most = unsure.topk(max(1, len(features) // 2)).indices
        return torch.zeros(len(features), dtype=torch.bool).index_fill(0, most, True)

    def measure(self, population: Population, batch: Batch, chosen: Tensor) -> Tensor:
        """[P,M], what was measured; NaN for dear measures of networks not chosen (bool [P])."""
        if chosen.all():
            return measured(self.measures, population, batch)
        figures = torch.full((len(population), len(self.measures)), math.nan)
        figures = figures.double().to(population.theta.device)
        some = chosen.nonzero().flatten().to(figures.device)
        prepared = {name: made[some] for name, made in batch.prepared.items()}
        networks, own = population.choose(some), Batch(batch.images, batch.labels, prepared)
        for index, measure in enumerate(self.measures):
            if not measure.is_dear:
                figures[:, index] = measured([measure], population, batch)[:, 0]
            elif len(some):
                figures[some, index] = measured([measure], networks, own)[:, 0]
        return figures

    @torch.no_grad()
    def scores(self) -> list[dict[str, Any]]:
        """What was measured of the last networks, or NaN, and V's estimates of it now, by kind."""
        features, figures = self.replay.last(SHOWN_NETWORKS)
        names = [measure.name for measure in self.measures]
        return [
            {"kind": kind, **dict(zip(names, row, strict=True))}
            for kind, rows in (("measured", figures), ("estimated", self.value(features)))
            for row in rows.tolist()
        ]

    def state_dict(self) -> dict[str, Any]:
        """The state beside V's own weights, for a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continues where `state_dict` was taken."""
        load_optimizer(self.optimizer, state["optimizer"])
        self.replay.load_state_dict(state["replay"], device)


def draw_seed(rng: torch.Generator) -> int:
    """A seed for an attack's random starts."""
    return int(torch.randint(2**31, (), generator=rng))
