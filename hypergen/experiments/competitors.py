"""What samples are compared with: networks trained directly, and what costs nothing."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.sampler import CALIBRATION_IMAGES, Sampler
from hypergen.experiments.base import direct_recipe
from hypergen.experiments.run_folder import BASE
from hypergen.models.bundle import fresh_target
from hypergen.runtime.rng import seeded
from hypergen.storage.weights import load_network, read_network, save_network
from hypergen.training.direct_config import BaselineConfig, Method
from targets import Population

FBF_COUNT = 3
NOISY_COUNT = 2


def competitors(
    folder: Path,
    sampler: Sampler,
    dataset: Dataset,
    samples: Population,
    baselines: Mapping[Path, BaselineConfig],
) -> dict[str, Population]:
    """The samples and what they are compared with, by kind, on the samples' device."""
    images = dataset.calibration_images(CALIBRATION_IMAGES).cpu()
    groups = {"sample": samples, "start": starting_network(folder, sampler, images)}
    if baselines:
        direct = direct_networks(baselines)
        groups |= direct
        if "fbf" in direct:
            seed = sampler.config.optimisation.seed
            groups |= trivial_competitors(direct["fbf"], samples, images, seed)
    return {kind: group.to(samples.theta.device) for kind, group in groups.items()}


def starting_network(folder: Path, sampler: Sampler, images: Tensor) -> Population:
    """Where the base weights began: the base, or the fresh initialisation of the run's seed.

    Batch-norm statistics of the latter are those of training images [N,C,H,W].
    """
    config = sampler.config
    if config.start is not None:
        return Population.of([load_network(folder / BASE)])
    with seeded(config.optimisation.seed):
        fresh = fresh_target(config.target, config.activation, sampler.info)
    return Population.of([fresh]).recalibrate(images)


def direct_recipes(folder: Path, config: TrainConfig) -> dict[Path, BaselineConfig]:
    """How the files of one ordinary, three FBF and one PGD-trained network in `folder` are made.

    In l1, where FBF takes no step, it is left out.
    """
    first = config.optimisation.seed
    counts: dict[Method, int] = {"pgd": 1, "fbf": FBF_COUNT, "standard": 1}  # the longest first
    return {
        folder / f"{method}-{seed}.safetensors": direct_recipe(config, method, seed)
        for method, count in counts.items()
        if method != "fbf" or config.adversary.norm != "l1"
        for seed in range(first, first + count)
    }


def share_base(
    recipes: Mapping[Path, BaselineConfig], config: TrainConfig, base: Path | None
) -> None:
    """Copies the base there where one of the recipes would train the same network once more."""
    for path, recipe in recipes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        same = recipe.method == config.start and recipe.seed == config.optimisation.seed
        same = same and recipe.lipschitz_bound == config.lipschitz_bound
        if base is not None and same:
            save_network(path, *read_network(base))


def direct_networks(files: Mapping[Path, BaselineConfig]) -> dict[str, Population]:
    """The directly trained networks by their method."""
    return {
        method: Population.of(
            load_network(path) for path, recipe in files.items() if recipe.method == method
        )
        for method in ("standard", "fbf", "pgd")
        if any(recipe.method == method for recipe in files.values())
    }


def trivial_competitors(
    fbf: Population, samples: Population, images: Tensor, seed: int
) -> dict[str, Population]:
    """What costs nothing: an FBF network with noise of the samples' size, and the FBF average.

    Batch-norm statistics are recalibrated on `images`. The noise has, tensor by tensor, the
    standard deviation that the samples have among themselves.
    """
    layout = samples.layout
    spread = samples.theta.std(0, correction=0).cpu()
    sizes = torch.cat(
        [
            spread[slot.start : slot.stop].square().mean().sqrt().expand(slot.stop - slot.start)
            for slot in layout.slots
        ]
    )
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(NOISY_COUNT, layout.size, generator=rng) * sizes
    copies = fbf.choose(torch.zeros(NOISY_COUNT, dtype=torch.long))
    return {
        "fbf + noise": copies.with_theta(copies.theta + noise).recalibrate(images),
        "fbf average": fbf[:1].with_theta(fbf.theta.mean(0, keepdim=True)).recalibrate(images),
    }
