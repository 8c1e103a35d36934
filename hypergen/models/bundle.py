"""The networks of a run, and targets made for a data set."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import torch
from torch import nn

import targets
from hypergen.catalog import ACTIVATIONS, TARGETS
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo
from hypergen.measures import build_measures
from hypergen.models.bounded import BoundedGenerator
from hypergen.models.ema import EMA, ema
from hypergen.models.generator import PRETRAINING_STEPS, ResidualGenerator, build_generator
from hypergen.models.latent import Latent
from hypergen.models.value_network import ValueNetwork, build_value_network
from hypergen.registry import plugin_record
from hypergen.runtime.rng import seeded
from hypergen.storage.tensor_files import copied
from targets import WeightLayout
from targets.spectral_bound import SpectralBound

T = TypeVar("T")


@dataclass
class ModelBundle:
    """The networks of a run: the target, the generator and its average, the value network."""

    target: nn.Module
    generator: nn.Module
    ema: EMA
    value: ValueNetwork

    @classmethod
    def fresh(
        cls,
        config: TrainConfig,
        info: DatasetInfo,
        base: nn.Module | None = None,
        pretraining_steps: int = PRETRAINING_STEPS,
    ) -> Self:
        """All as `config` and its seed say, on the CPU; the base weights those of `base`.

        pretraining_steps: of a published generator that is fitted to the base.
        """
        with seeded(config.optimisation.seed):
            module = fresh_target(config.target, config.activation, info)
            layout = WeightLayout.of(module)
            start = (module if base is None else base).state_dict()
            generator = build_generator(
                config, layout, layout.flatten(start), base is not None, pretraining_steps
            )
            if config.lipschitz_bound is not None:
                bound = SpectralBound(module, info.input_shape, config.lipschitz_bound)
                generator = BoundedGenerator(generator, bound)
            average = ema(generator, config.optimisation.ema_decay)
            value = build_value_network(
                config.value_network.kind,
                module,
                info.input_shape,
                info.num_classes,
                build_measures(config),
                config.value_network.members,
            )
        return cls(module, generator, average, value)

    @property
    def latent(self) -> Latent:
        """What z is drawn from."""
        return cast(Latent, self.generator.latent)

    @property
    def prior_scale(self) -> float | None:
        """How far the random prior sets samples apart; None where the generator has none."""
        return next((part.prior_scale for part in self._with_prior()), None)

    @prior_scale.setter
    def prior_scale(self, size: float) -> None:
        for part in self._with_prior():
            part.prior_scale = size

    def _with_prior(self) -> Iterator[ResidualGenerator]:
        for network in (self.generator, self.ema):
            parts = network.modules()
            yield from (part for part in parts if isinstance(part, ResidualGenerator))

    def to(self, device: torch.device) -> Self:
        """Moves all of them, and returns them."""
        for network in (self.target, self.generator, self.ema, self.value):
            network.to(device)
        self.ema.share_constants(self.generator)
        return self

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what a checkpoint holds of them."""
        for name in ("generator", "ema", "value"):
            network = getattr(self, name)
            network.load_state_dict(copied(state[name], network.state_dict()))
        if "prior_scale" in state:  # of a run that steers it
            self.prior_scale = state["prior_scale"]


def fresh_target(
    target: str, activation: str, info: DatasetInfo, pretrained: bool = False
) -> nn.Module:
    """A target for a data set, initialised from PyTorch's global random state.

    Its attribute `metadata` is what `describe` gives, so that a network alone can be exported.

    `InputError` or `TargetError`: an unknown name, or a target that cannot take such images.
    """
    TARGETS.get(target)  # names the nearest one
    ACTIVATIONS.get(activation)
    module = targets.build(target, activation, info.num_classes, info.input_shape, pretrained)
    layout = WeightLayout.of(module)
    metadata = describe(target, activation, info, layout)
    module.metadata = metadata  # pyright: ignore[reportArgumentType]
    return module


def as_shapes(make: Callable[[], T]) -> T | None:
    """What is made of tensors that have shapes alone; None where that fails."""
    try:
        with warnings.catch_warnings(action="ignore"), torch.device("meta"), torch.no_grad():
            return make()
    except Exception:  # whatever a stranger's class raises; it is told when it is made indeed
        return None


def describe(
    target: str, activation: str, info: DatasetInfo, layout: targets.WeightLayout
) -> dict[str, Any]:
    """The metadata that every weight file needs to be opened again."""
    return {
        "target": target,
        "activation": activation,
        "num_classes": info.num_classes,
        "class_names": list(info.class_names),
        "input_shape": list(info.input_shape),
        "layout": layout.fingerprint,
        "dataset": info.name,
        "plugins": plugin_record([(TARGETS, target), (ACTIVATIONS, activation)]),
    }
