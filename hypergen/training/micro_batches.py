"""How many images of a batch a network in direct training sees at a time, and how many train."""

from collections.abc import Iterable

import torch
from torch import nn

from hypergen.budget import allowed, budget, room
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.models.bundle import as_shapes, fresh_target
from hypergen.runtime.fitting import CERTAIN, GIB, bytes_needed, fit
from hypergen.runtime.rng import seeded
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from targets import Population

TOGETHER = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
"""Layers by which images of a batch decide one another, or by which a second look is another."""
WITH_BOUNDS = 3.2
"""Memory with interval bounds, relative to that without (measured: 1.6 to 3.2)."""


def micro_batch(
    module: nn.Module,
    batch: int,
    shape: tuple[int, int, int],
    device: torch.device,
    with_bounds: bool = False,
) -> int | None:
    """Returns the images that fit the memory, of a batch of images (C,H,W); None for all of them.

    with_bounds: whether the network's interval bounds are trained too. `InputError`: with these, or
    of a network with batch norm or dropout, all must, and more memory would be needed than was
    allowed.
    """
    population = Population.of([module])
    images = torch.empty(1, device=device).expand(batch, *shape)
    if not with_bounds and not any(isinstance(layer, TOGETHER) for layer in module.modules()):
        return fit(population, images, workers=1).images
    needed = bytes_needed(population, images) * (WITH_BOUNDS if with_bounds else 1)
    if device.type == "cpu" and allowed() is not None and needed > room():
        raise InputError(
            f"a batch of {batch} images needs about {needed / GIB:.2f} GiB of memory, and of "
            f"`memory` {max(0, room()) / GIB:.2f} are left; raise it"
        )
    return None


def trainings_at_once(
    configs: Iterable[BaselineConfig], dataset: Dataset, device: torch.device
) -> int | None:
    """Returns how many direct trainings fit side by side beside a generator's; None: one a core."""
    if device.type != "cpu":
        return 1
    most = max((_bytes_of(config, dataset) for config in configs), default=0.0)
    cores = torch.get_num_threads()
    if cores * most <= CERTAIN * budget():
        return None
    return max(1, min(cores, int(room() / 2 // most)))


def _bytes_of(config: BaselineConfig, dataset: Dataset) -> float:
    def make() -> nn.Module:
        return fresh_target(config.target, config.activation, dataset.info)

    with seeded(0):
        module = as_shapes(make) or make()
    images = len(dataset.train)
    batch = min(images, DirectPlan.of(config, dataset.info, images).recipe.batch_size)
    return bytes_needed(Population.of([module]), torch.empty(1).expand(batch, *dataset.input_shape))
