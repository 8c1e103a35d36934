"""Fits the value network to what is measured on generated and perturbed networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import attacks
from hypergen.config import ValueNetworkConfig
from hypergen.measures import MEASURES, Batch, named
from hypergen.measures.attacked import attacked_batch
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.batching import chunks
from hypergen.runtime.precision import full_precision
from hypergen.storage.checkpoint import load_optimizer
from hypergen.training.replay_buffer import ReplayBuffer
from targets import Population, max_workers, parallel_map

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
        scales: [D], the typical size of each weight.
        population_of: weight vectors [P,D] -> networks ready to be measured.
        rng: the run's generator, which decides everything random.
    """

    def __init__(
        self,
        settings: ValueNetworkConfig,
        value: ValueNetwork,
        scales: Tensor,
        population_of: Callable[[Tensor], Population],
        rng: torch.Generator,
    ):
        self.settings, self.value, self.scales = settings, value, scales
        self.population_of, self.rng = population_of, rng
        self.replay = ReplayBuffer(settings.replay_size)
        self.optimizer = torch.optim.Adam(
            value.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def fit(self, population: Population, batch: Batch, attack: attacks.Attack) -> dict[str, float]:
        """Measures the networks, and a few perturbed ones, and fits V to all in the replay.

        batch: images attacked against the networks; attack: makes those of the perturbed ones.
        """
        features, measured = self.measure(population, batch)
        self.replay.add(features, measured)
        if self.settings.num_perturbed:
            near = self.perturb_weights(population.theta[: self.settings.num_perturbed])
            attacked = self.attacked(near, batch.images, batch.labels, attack)
            self.replay.add(*self.measure(near, attacked))
        metrics = {"value_loss": self.take_steps(self.settings.steps)}
        with torch.no_grad():
            estimated = self.value(features)
        for kind, values in (("measured", measured), ("estimated", estimated)):
            for name, mean in named(values.mean(0).tolist()).items():
                metrics[f"{kind}/{name}"] = mean
        return metrics

    def pretrain(
        self, theta: Tensor, images: Tensor, labels: Tensor, attack: attacks.Attack, steps: int
    ) -> None:
        """Fits V to networks of weights [P,D] before the first step of the generator."""
        population = self.population_of(theta)
        batch = self.attacked(population, images, labels, attack)
        self.replay.add(*self.measure(population, batch))
        self.take_steps(steps)

    def attacked(
        self, population: Population, images: Tensor, labels: Tensor, attack: attacks.Attack
    ) -> Batch:
        """The images [B,C,H,W], attacked against these networks."""
        return attacked_batch(population, images, labels, attack, draw_seed(self.rng))

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
            features, measured = self.replay.draw(BATCH, self.rng)
            loss = self.value.loss(features, measured)
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
        scores = [measure(population, batch) for measure in MEASURES]
        return features, torch.stack(scores, dim=-1)

    @torch.no_grad()
    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """The measures [P,M] of the networks measured last, and V's estimates of them now."""
        features, measured = self.replay.last(count)
        return measured, self.value(features)

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
