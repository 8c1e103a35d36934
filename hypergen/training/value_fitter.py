"""Fits the value network to what is measured on generated and perturbed networks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hypergen.config import ValueNetworkConfig
from hypergen.measures import Batch, Measure, Stage, measured, prepare_batch
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.batching import chunks
from hypergen.runtime.precision import full_precision
from hypergen.storage.checkpoint import load_optimizer
from hypergen.training.replay_buffer import ReplayBuffer
from targets import Population, max_workers, parallel_map

StageOf = Callable[[int], Stage]
"""Gives the stage of now with a seed."""
BATCH = 64
"""Measurements in a step of V."""
PRETRAINING_STEPS = 500
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

    def fit(self, population: Population, batch: Batch, stage: StageOf) -> dict[str, float]:
        """Measures the networks, and a few perturbed ones, and fits V to all in the replay.

        batch: images prepared for the networks; stage: at which those of the perturbed ones are.
        """
        features, figures = self.measure(population, batch)
        self.replay.add(features, figures)
        if self.settings.num_perturbed:
            near = self.perturb_weights(population.theta[: self.settings.num_perturbed])
            fresh = self.prepare(near, batch.images, batch.labels, stage)
            self.replay.add(*self.measure(near, fresh))
        metrics = {"value_loss": self.take_steps(self.settings.steps)}
        with torch.no_grad():
            estimated = self.value(features)
        for kind, values in (("measured", figures), ("estimated", estimated)):
            for measure, mean in zip(self.measures, values.mean(0).tolist(), strict=True):
                metrics[f"{kind}/{measure.name}"] = mean
        return metrics

    def pretrain(
        self, theta: Tensor, images: Tensor, labels: Tensor, stage: StageOf, steps: int
    ) -> None:
        """Fits V to networks of weights [P,D] before the first step of the generator."""
        population = self.population_of(theta)
        batch = self.prepare(population, images, labels, stage)
        self.replay.add(*self.measure(population, batch))
        self.take_steps(steps)

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: StageOf
    ) -> Batch:
        """The images [B,C,H,W] with what the measures need of these networks."""
        seeded = stage(draw_seed(self.rng))
        return prepare_batch(self.measures, population, images, labels, seeded)

    def perturb_weights(self, theta: Tensor) -> Population:
        """Networks around weight vectors [P,D], some near, some far (log-uniform).

        What V has learned of bad networks keeps its estimates true when the generator goes astray.
        """
        least, greatest = PERTURBATIONS
        sizes = least * (greatest / least) ** torch.rand(len(theta), 1, generator=self.rng)
        noise = (sizes * torch.randn(theta.shape, generator=self.rng)).to(theta.device)
        return self.population_of(theta + self.scales * noise)

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
    def measure(self, population: Population, batch: Batch) -> tuple[Tensor, Tensor]:
        """What V looks at, features [P,...], and the measures [P,M] on the same images."""

        def extract(job: tuple[slice, Population]) -> Tensor:
            network_slice, chunk = job
            return self.value.features(chunk, batch.for_networks(network_slice))

        jobs = chunks(population, batch.images)
        workers = max_workers(batch.images.device)
        features = torch.cat(list(parallel_map(extract, jobs, workers)))
        return features, measured(self.measures, population, batch)

    @torch.no_grad()
    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """The measures [P,M] of the networks measured last, and V's estimates of them now."""
        features, figures = self.replay.last(count)
        return figures, self.value(features)

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
