"""Draws networks from a trained generator, and estimates their measures."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from hypergen.config import TrainConfig
from hypergen.data import Dataset, DatasetInfo
from hypergen.errors import InputError
from hypergen.measure_spec import full_name
from hypergen.measures import VALUE_ATTACKS, Stage, build_measures, prepare_batch
from hypergen.models.bundle import ModelBundle, describe
from hypergen.models.latent import Latent, draw_preferences, preference_weights
from hypergen.registry import nearest
from hypergen.runtime.batching import chunks, recalibrated
from hypergen.runtime.torch_state import usual_state
from hypergen.settings import COUNT, SEED, checked
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
        self.measures = build_measures(config)

    @usual_state()
    @torch.no_grad()
    def draw(
        self,
        count: int,
        beta: float | None = None,
        seed: int = 0,
        prefer: Mapping[str, float] | None = None,
        radius: float | None = None,
    ) -> tuple[Population, Tensor, Tensor]:
        """`count` networks, their z [count,Z] and preferences (see `draw_preferences`).

        beta in [0,1]: weight of robustness; by default what the run was trained at, drawn from its
        range. prefer: weights of measures by name, for a run trained on ranges of them; those not
        named get 0, and the sum is made 1. radius: what to withstand, for a run trained on a range
        of it.

        `InputError` for a preference that it was not trained for, a count below 1, or a target with
        batch norm and no data set.
        """
        count = checked("count", count, int, (COUNT,))
        seed = checked("seed", seed, int, (SEED,))
        rng = torch.Generator().manual_seed(seed)
        z = cast(Latent, self.models.generator.latent).draw(count, rng)
        given = {"beta": beta, "prefer": prefer, "radius": radius}
        ways = [name for name, value in given.items() if value is not None]
        if not ways:
            preference = draw_preferences(count, self.config, rng)
        else:
            if len(ways) > 1:
                names = " and ".join(f"`{name}`" for name in ways)
                raise InputError(f"{names}: only one of them can be asked")
            asked = self._asked(ways[0], given[ways[0]])
            preference = asked.expand(count, *asked.shape)
        return self.generate(z, preference), z, preference

    @usual_state()
    @torch.no_grad()
    def generate(self, z: Tensor, preference: Tensor) -> Population:
        """The networks of z [P,Z] and preferences, [P] or weights [P,M] (`draw_preferences`).

        `InputError` for a target with batch norm and no data set.
        """
        device = next(self.models.ema.parameters()).device
        theta = self.models.ema(z.to(device), preference.to(device))
        return self._calibrated(Population(self.models.target, theta))

    def _asked(self, name: str, wanted: Any) -> Tensor:
        """The preference asked for by beta, radius or prefer: a number [] or weights [M]."""
        objective, knob = self.config.objective, self.config.knob
        if name == "beta" and objective.measures:
            ways = "use `prefer`" if objective.has_many_preferences else "leave out `beta`"
            raise InputError(f"this generator was trained for weights of measures: {ways}")
        if name == "radius" and knob.name != "radius":
            raise InputError("`radius` is for generators that were trained for a range of epsilon")
        if name == "beta" and knob.name != "beta":
            raise InputError("this generator was trained for a range of epsilon: use `radius`")
        if name == knob.name:
            return torch.tensor(knob.given(checked(name, wanted, float)))
        if not objective.has_many_preferences:
            raise InputError("`prefer` is for generators that were trained for ranges of measures")
        weights = self._by_full_name(wanted)
        asked_for = torch.tensor([weights.get(measure.name, 0.0) for measure in self.measures])
        if asked_for.sum() == 0:
            raise InputError("`prefer`: at least one weight must be above 0")
        return asked_for / asked_for.sum()

    def _by_full_name(self, prefer: Mapping[str, float]) -> dict[str, float]:
        """The weights by the measures' names, of which the kind alone may be given."""
        names = [measure.name for measure in self.measures]
        found: dict[str, float] = {}
        for given, weight in prefer.items():
            name = full_name(given, names)
            if name not in names:
                known = ", ".join(names)
                raise InputError(
                    f"`prefer`: no measure {name}{nearest(name, names)}; it has {known}"
                )
            if not 0 <= weight < math.inf:
                raise InputError(f"`prefer`: the weight of {name} must be at least 0, got {weight}")
            if name in found:
                raise InputError(f"`prefer` names {name} twice")
            found[name] = float(weight)
        return found

    def preference_row(self, preference: Tensor) -> dict[str, Any]:
        """What a row or a weight file says of one network's preference, [] or weights [M]."""
        knob = self.config.knob
        if knob.name == "radius" or not self.config.objective.measures:
            return {knob.name: knob.value(float(preference))}
        (weights,) = preference_weights(preference[None], self.config)
        return {"preference": self.named(weights)}

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

    def sample(
        self,
        count: int,
        beta: float | None = None,
        seed: int = 0,
        prefer: Mapping[str, float] | None = None,
        radius: float | None = None,
    ) -> Population:
        """`count` networks as a population, of which `population[0]` is one in plain PyTorch.

        Arguments and errors as in `draw`.
        """
        return self.draw(count, beta, seed, prefer, radius)[0]

    def named(self, values: Tensor) -> dict[str, float]:
        """The values [M] of one network by the names of the run's measures."""
        names = [measure.name for measure in self.measures]
        return dict(zip(names, values.tolist(), strict=True))

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
        value, stage = self.models.value, self.value_stage(self.config.optimisation.seed)
        features = []
        for _, some in population.chunks(ESTIMATION_CHUNK):
            batch = prepare_batch(self.measures, some, chosen, labels, stage)
            features += [
                value.features(chunk, batch.for_networks(network_slice))
                for network_slice, chunk in chunks(some, chosen)
            ]
        whole = torch.cat(features)
        return value(whole), value.uncertainty(whole)

    def value_stage(self, seed: int) -> Stage:
        """What attacks the images that the value network looks at; seed: of the attacks."""
        make = VALUE_ATTACKS[self.config.adversary.value_attack]
        return Stage(lambda threat: make(threat, self.attack_steps), seed)

    def metadata(
        self, population: Population, z: Tensor, preference: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the weight file of one of the networks says of where it comes from; z [Z]."""
        config = self.config
        return {
            **describe(config.target, config.activation, self.info, population.layout),
            "z": z.tolist(),
            **preference,
            "epsilon": config.threat.epsilon,
            "norm": config.adversary.norm,
        }
