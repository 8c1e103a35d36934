"""The network that a run starts from: a file of the user's, or trained on the spot."""

from pathlib import Path
from typing import get_args

import torch
from torch import nn

from hypergen.config import TrainConfig
from hypergen.data import Dataset, DatasetInfo
from hypergen.errors import InputError
from hypergen.experiments.baseline import train_baselines
from hypergen.experiments.run_folder import BASE
from hypergen.models.bundle import describe, fresh_target
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.rng import seeded
from hypergen.storage.external import load_external
from hypergen.storage.folders import expanded
from hypergen.storage.weights import is_own, load_network, read_metadata, save_network
from hypergen.training.direct_config import BaselineConfig, Method
from targets import WeightLayout


def direct_recipe(config: TrainConfig, method: Method, seed: int) -> BaselineConfig:
    """How a network like those of a run is trained directly, to start from or beside it.

    `InputError` or `AttackError` where it cannot be.
    """
    return BaselineConfig(
        method=method,
        data=config.data,
        target=config.target,
        activation=config.activation,
        norm=config.adversary.norm,
        epsilon=config.adversary.radius,
        seed=seed,
    )


def base_recipe(config: TrainConfig, method: Method) -> BaselineConfig:
    """How the network to start from is trained: with the layers' bound, if there is one."""
    recipe = direct_recipe(config, method, config.optimisation.seed)
    return recipe.replace(lipschitz_bound=config.lipschitz_bound)


def method_of(config: TrainConfig) -> Method | None:
    """How the network to start from is trained on the spot; None for a file, or for none."""
    return next((method for method in get_args(Method) if method == config.start), None)


def require_base(config: TrainConfig, info: DatasetInfo) -> None:
    """`InputError` or `AttackError` unless there can be the network to start from, if any."""
    method = method_of(config)
    if method is not None:
        base_recipe(config, method)
    elif config.start is not None:
        open_base(Path(config.start), config, info)


def open_base(path: Path, config: TrainConfig, info: DatasetInfo) -> nn.Module:
    """The network of a file: one of ours, or any state_dict of the run's target.

    `InputError`: a file that cannot be read, or of another network.
    """
    path = expanded(path)
    with seeded(0):  # whose weights are not used
        module = fresh_target(config.target, config.activation, info)
    if not is_own(path):
        return load_external(path, module)
    network, own = load_network(path), read_metadata(path)
    expected = describe(config.target, config.activation, info, WeightLayout.of(module))
    if any(own.get(name) != expected[name] for name in ("layout", "activation")):
        raise InputError(
            f"`base`: {path} holds another network than {config.target} with {config.activation} "
            f"for {info.name}"
        )
    return network


def untrained_base(config: TrainConfig, folder: Path) -> dict[Path, BaselineConfig]:
    """The file of the network to start from and its recipe, if it is yet to be trained."""
    path, method = folder / BASE, method_of(config)
    return {} if method is None or path.exists() else {path: base_recipe(config, method)}


def prepare_base(
    config: TrainConfig,
    dataset: Dataset,
    device: torch.device,
    folder: Path,
    progress: Progress = SILENT,
) -> Path | None:
    """The network to start from, if any, as a file of the run: a copy, or trained on the spot."""
    if config.start is None:
        return None
    path = folder / BASE
    if path.exists():
        return path
    if recipe := untrained_base(config, folder):
        train_baselines(recipe, dataset, device, progress=progress)
        return path
    network = open_base(Path(config.start), config, dataset.info)
    layout = WeightLayout.of(network)
    metadata = describe(config.target, config.activation, dataset.info, layout)
    save_network(path, network.state_dict(), metadata | {"base": config.start})
    return path
