"""Draws networks from a trained generator, and estimates their measures."""

from typing import Any, cast

import torch
from torch import Tensor

from hypergen.config import TrainConfig
from hypergen.data import Dataset, DatasetInfo
from hypergen.errors import InputError
from hypergen.measures import VALUE_ATTACKS
from hypergen.measures.attacked import attacked_batch
from hypergen.models.bundle import ModelBundle, describe
from hypergen.models.latent import Latent, draw_beta
from hypergen.runtime.batching import chunks, recalibrated
from hypergen.runtime.torch_state import usual_state
from targets import Population

CALIBRATION_IMAGES = 1024
"""Training images that the batch-norm statistics of what is drawn are measured on."""
ESTIMATION_CHUNK = 64
"""Networks whose attacked images are in memory at once."""


class Sampler:
    """The averaged generator of a run, ready to draw from.

    Args:
        config: of the run.
        info: of its data set.
        models: its networks.
        attack_steps: of the value attack that V was last fitted to; training may have raised them.
        dataset: needed for targets with batch norm, whose statistics are measured on training
            images.
    """

    def __init__(
        self,
        config: TrainConfig,
        info: DatasetInfo,
        models: ModelBundle,
        attack_steps: int,
        dataset: Dataset | None = None,
    ):
        self.config, self.info, self.models = config, info, models
        self.attack_steps, self.dataset = attack_steps, dataset

    @usual_state()
    @torch.no_grad()
    def draw(
        self, count: int, beta: float | None = None, seed: int = 0
    ) -> tuple[Population, Tensor, Tensor]:
        """`count` networks, their z [count,Z] and preferences [count].

        beta in [0,1]: weight of robustness; by default what the run was trained at, drawn from its
        range. `InputError` for a preference outside that range, a count below 1, or a target with
        batch norm and no data set.
        """
        if count < 1:
            raise InputError(f"`count` must be at least 1, got {count}")
        low, high = self.config.objective.beta_range
        if beta is not None and not low <= beta <= high:
            raise InputError(
                f"this generator was trained for `beta` in [{low:g}, {high:g}], not {beta:g}"
            )
        rng = torch.Generator().manual_seed(seed)
        z = cast(Latent, self.models.generator.latent).draw(count, rng)
        betas = draw_beta(count, (low, high) if beta is None else (beta, beta), rng)
        device = next(self.models.ema.parameters()).device
        theta = self.models.ema(z.to(device), betas.to(device))
        return self._calibrated(Population(self.models.target, theta)), z, betas

    def _calibrated(self, population: Population) -> Population:
        if self.dataset is not None:
            images = self.dataset.calibration_images(CALIBRATION_IMAGES)
            return recalibrated(population, images)
        if population.has_batch_norm:
            raise InputError(
                f"{self.config.target} has batch norm, whose statistics are measured on training "
                f'images: load_generator(run, load_dataset("{self.info.name}"))'
            )
        return population

    def sample(self, count: int, beta: float | None = None, seed: int = 0) -> Population:
        """`count` networks as a population, of which `population[0]` is one in plain PyTorch.

        Arguments and errors as in `draw`.
        """
        return self.draw(count, beta, seed)[0]

    @usual_state()
    @torch.no_grad()
    def estimate(
        self, population: Population, dataset: Dataset, images: int = 256
    ) -> tuple[Tensor, Tensor]:
        """[P,M], the measures as the value network estimates them; their uncertainty, [P,M].

        On validation images, which the generator has never been trained on. A `set` looks at them
        attacked at the run's epsilon; the other kinds see weights alone and so stand for the radius
        trained against, where robustness is lower.
        """
        chosen, labels = dataset.val.first(images)
        config, value = self.config, self.models.value
        attack = VALUE_ATTACKS[config.adversary.value_attack](config.threat, self.attack_steps)
        features = []
        for _, some in population.chunks(ESTIMATION_CHUNK):
            batch = attacked_batch(some, chosen, labels, attack, config.optimisation.seed)
            features += [
                value.features(chunk, batch.for_networks(network_slice))
                for network_slice, chunk in chunks(some, chosen)
            ]
        whole = torch.cat(features)
        return value(whole), value.uncertainty(whole)

    def metadata(self, population: Population, z: Tensor, beta: float) -> dict[str, Any]:
        """What the weight file of one of the networks says of where it comes from; z [Z]."""
        config = self.config
        return {
            **describe(config.target, config.activation, self.info, population.layout),
            "z": z.tolist(),
            "beta": beta,
            "epsilon": config.threat.epsilon,
            "norm": config.adversary.norm,
        }
