"""What a training takes of the memory, compared with what is there before anything is made.

Networks are made without numbers to find out. All is counted low: whatever is refused would have
failed.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hypergen.config import GeneratorConfig, TrainConfig
from hypergen.data import Dataset, DatasetInfo
from hypergen.data.memory import (
    Need,
    drawn_networks,
    is_large,
    require_memory,
)
from hypergen.experiments.run_folder import RunSettings
from hypergen.measures import Batch
from hypergen.models.bundle import ModelBundle, as_shapes, fresh_target
from hypergen.runtime.fitting import usable_memory
from hypergen.runtime.rng import seeded
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.length import with_steps
from targets import Population, WeightLayout

USUAL_PIXELS = 3 * 256 * 256
"""Numbers of an image up to which any target can be made without asking for the memory first."""
TRAINED_COPIES = 4
"""Numbers for each that is trained: itself, its gradient, and the two moments of Adam."""
STEP_COPIES = 3
"""Numbers at once for each weight generated in a step: itself, its gradient, and what this becomes
on its way back through the generator; through a residual one, one more."""


def require_run_memory(settings: RunSettings, dataset: Dataset) -> bool:
    """`InputError`, with the setting to lower, where a run takes more memory than there is.

    Returns whether its networks were made, as shapes alone. Those of a small run are not, since
    PyTorch imports for seconds what it needs for that.
    """
    memory = usable_memory(dataset.device)
    if not is_large(_bound(settings, dataset), memory):
        return False
    models = _empty_models(settings.config, dataset.info)
    if models is None:
        return False
    needs = list(_models(settings.config, models))
    training = _training(settings.config, models, dataset)
    require_memory([*needs, *training], memory)
    size = WeightLayout.of(models.target).size
    require_memory([*needs, drawn_networks(settings.report.samples, size, "samples")], memory)
    return True


def _bound(settings: RunSettings, dataset: Dataset) -> float:
    """More bytes than a run takes; infinite where that is not known: own things, large images."""
    config, pixels = settings.config, math.prod(dataset.input_shape)
    if settings.plugins or pixels > USUAL_PIXELS:
        return math.inf
    size = WeightLayout.of(_made_target(config, dataset.info)).size
    step, value, measures = config.optimisation, config.value_network, len(config.objective.specs)
    # The base and a dense head, their moments and average; the prior; networks while they are
    # made; weights in the replay; a value network that looks at all weights.
    copies = (TRAINED_COPIES + 1) * (1 + 65) + config.generator.latent_size
    copies += (STEP_COPIES + 1) * max(step.population, settings.report.samples)
    copies += value.replay_size
    copies += (TRAINED_COPIES + 1) * 512 * value.members
    images = step.population * step.batch_size * pixels * (1 + measures)
    features = value.replay_size * step.batch_size * (2 * measures + 4)
    return 4.0 * (size * copies + images + features)


def require_baseline_memory(config: BaselineConfig, dataset: Dataset) -> None:
    """The same for a network that is trained directly."""
    make = _made_target if math.prod(dataset.input_shape) <= USUAL_PIXELS else _empty_target
    target = make(config, dataset.info)
    if target is not None:
        size = 4.0 * TRAINED_COPIES * WeightLayout.of(target).size
        require_memory([Need(size, _smaller_target(config))], usable_memory(dataset.device))


def _empty_models(config: TrainConfig, info: DatasetInfo) -> ModelBundle | None:
    """The networks of a run without numbers; None where they cannot be made without."""
    return as_shapes(lambda: ModelBundle.fresh(config, info))


def _made_target(config: TrainConfig | BaselineConfig, info: DatasetInfo) -> nn.Module:
    with seeded(0):
        return fresh_target(config.target, config.activation, info)


def _empty_target(config: BaselineConfig, info: DatasetInfo) -> nn.Module | None:
    return as_shapes(lambda: _made_target(config, info))


def _models(config: TrainConfig, models: ModelBundle) -> Iterator[Need]:
    """What the networks of a run take while these are trained."""
    both = nn.ModuleList([models.generator, models.ema])  # what they share counts once
    whole, prior = _bytes(both) + _moments(models.generator), 0.0
    if _has_prior(models):
        prior = 4.0 * config.generator.latent_size * WeightLayout.of(models.target).size
    long = config.generator.latent_size > GeneratorConfig().latent_size
    smaller = _smaller_target(config)
    yield Need(prior, "lower `latent_size`" if long else smaller, is_last=not long)
    yield Need(whole - prior, smaller, is_last=True)
    several = config.value_network.members > 1
    value = _bytes(models.value) + _moments(models.value)
    yield Need(value, "lower `value_members`" if several else smaller, is_last=not several)


def _training(config: TrainConfig, models: ModelBundle, dataset: Dataset) -> Iterator[Need]:
    """What a step takes beside the networks, and what is kept of all steps."""
    step, value = config.optimisation, config.value_network
    size = WeightLayout.of(models.target).size
    each = 4.0 * (STEP_COPIES + _has_prior(models)) * size
    yield Need(each, _smaller_target(config), is_last=True)
    yield Need((step.population - 1) * each, "lower `population`")
    channels, height, width = dataset.input_shape
    batch = min(step.batch_size, len(dataset.train))
    many = step.population / 4 >= batch / 64  # of the two, which is more than usual?
    setting = "population" if many else "batch_size"
    attacked = 4.0 * step.population * batch * channels * height * width
    yield Need(attacked, f"lower `{setting}`")
    steps = with_steps(config, dataset).optimisation.length
    measured = -(-steps // config.measurement_interval) * step.population
    rows = min(value.replay_size, measured)
    yield Need(float(rows) * _row(models, dataset.input_shape), "lower `replay_size`")


def _has_prior(models: ModelBundle) -> bool:
    """Whether the generator is a residual one."""
    return hasattr(models.generator, "random_prior")


def _row(models: ModelBundle, shape: tuple[int, int, int]) -> int:
    """Bytes that the replay buffer keeps of a network, if it keeps weights; 0 if images decide."""

    def features() -> Tensor:
        population = Population(models.target, torch.empty(1, WeightLayout.of(models.target).size))
        batch = Batch(torch.empty(1, *shape), torch.zeros(1, dtype=torch.int64))
        return models.value.features(population, batch)

    made = as_shapes(features)
    return 0 if made is None else made.nbytes


def _smaller_target(config: TrainConfig | BaselineConfig) -> str:
    resized = "" if config.data.image_size is None else " or a smaller `image_size`"
    return f"choose a smaller `target` than {config.target}{resized}"


def _bytes(network: nn.Module) -> float:
    return float(sum(t.nbytes for t in (*network.parameters(), *network.buffers())))


def _moments(network: nn.Module) -> float:
    """What a training adds to a network: gradients and moments."""
    trained = sum(each.nbytes for each in network.parameters() if each.requires_grad)
    return float((TRAINED_COPIES - 1) * trained)
