"""The networks of a kind that a study compares: trained directly, or samples of one generator."""

from pathlib import Path
from typing import Any

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.base import direct_recipe
from hypergen.training.direct_config import Method
from scripts.common import device, generator, trained
from targets import Population


def networks_of(
    place: Path,
    method: Method | None,
    config: TrainConfig,
    count: int,
    dataset: Dataset,
    **changes: Any,
) -> Population:
    """So many networks, made where `place` has none yet.

    place: the generator's folder, or the beginning of the weight files' names.
    method: by which they are trained directly, from seeds 0, 1, ...; None for samples.
    changes: settings of the direct training that it does not share with the generator's `config`.
    """
    if method is None:
        return generator(place, config, dataset).sample(count, seed=1)
    made = []
    for seed in range(count):
        recipe = direct_recipe(config, method, seed).replace(**changes)
        path = place.with_name(f"{place.name}-{seed}.safetensors")
        made.append(trained(path, recipe, dataset, device()).eval())
    return Population.of(made)
