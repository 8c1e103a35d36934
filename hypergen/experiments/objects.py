"""Objects in the place of names: a target's class, a `Dataset`, a population of networks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hypergen import data
from hypergen.catalog import ACTIVATIONS, GENERATORS, TARGETS, VALUE_NETWORKS
from hypergen.config import DataConfig
from hypergen.data import DATASETS, Dataset
from hypergen.errors import InputError
from hypergen.experiments.run import Run
from hypergen.registry import Registry
from hypergen.runtime.device import choose_device
from hypergen.runtime.torch_state import usual_state
from hypergen.storage.folders import expanded
from targets import Ensemble, Population

Networks = Run | Population | Ensemble | nn.Module | Path | str
"""What can be judged."""


def by_name(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with classes and functions under names of their own."""
    registries = {
        "target": TARGETS,
        "activation": ACTIVATIONS,
        "generator": GENERATORS,
        "value_network": VALUE_NETWORKS,
    }
    return {
        name: _name_of(registries[name], value) if name in registries else value
        for name, value in options.items()
    }


def _name_of(registry: Registry, thing: Any) -> Any:
    """The name of something registered; what is not registered yet gets its own."""
    if isinstance(thing, str) or not callable(thing):
        return thing
    for name in registry:
        known = registry.get(name)
        if thing in (known, getattr(known, "__wrapped__", None)):  # registered with an output
            return name
    name = getattr(thing, "__name__", type(thing).__name__)
    registry.register(name)(thing)
    return name


@dataclass(frozen=True)
class _InMemory:
    """What a data set that was handed over as an object is registered as."""

    dataset: Dataset

    def __call__(self) -> Dataset:
        return self.dataset


def dataset_name(dataset: str | Dataset) -> str:
    """The name of a data set; an object that no name is known of yet is registered."""
    if isinstance(dataset, str):
        return dataset
    if not isinstance(dataset, Dataset):
        got = type(dataset).__name__
        raise InputError(f"expected a data set or the name of one, got something of type {got}")
    name = dataset.name
    if name in DATASETS and isinstance(DATASETS.get(name), _InMemory):
        DATASETS.drop(name)  # an object of an earlier call
    if name not in DATASETS:
        DATASETS.register(name)(_InMemory(dataset))
    return name


def load_images(
    images: DataConfig, dataset: str | Dataset | None, data_dir: Path | str | None, device: str
) -> Dataset:
    """The data set on the device. `InputError`: an object with options of what is loaded."""
    where = choose_device(device)
    if not isinstance(dataset, Dataset):
        return data.load(images.name, data_dir, where, images.image_size, images.grey)
    if images.image_size is not None or images.grey:
        raise InputError("`image_size` and `grey` are of a `dataset` that is given by its name")
    return dataset.to(where)


def sorted_out(
    networks: Networks | Iterable[Networks],
) -> tuple[list[nn.Module], list[Path]]:
    """Modules and paths, of which a call has one kind. `InputError`: anything else."""
    if isinstance(networks, Run):
        return [], [networks.folder]
    if isinstance(networks, Population):
        return list(networks), []
    if isinstance(networks, nn.Module):
        return [networks], []
    if isinstance(networks, str | Path):
        return [], [expanded(networks)]
    if not isinstance(networks, Iterable):
        raise InputError(f"expected networks or paths of some, got {type(networks).__name__}")
    modules: list[nn.Module] = []
    paths: list[Path] = []
    for each in networks:
        own_modules, own_paths = sorted_out(each)
        modules += own_modules
        paths += own_paths
    return modules, paths


@usual_state()
def load_dataset(
    name: str,
    *,
    data_dir: Path | str | None = None,
    device: str = "cpu",
    image_size: int | None = None,
    grey: bool = False,
) -> Dataset:
    """Loads a data set with its fixed splits.

        >>> hypergen.load_dataset("digits").num_classes
        10

    Args:
        name: a shipped or registered one, folder:PATH with a sub-folder for each class, npz:PATH,
            or torchvision:NAME.
        data_dir: folder of the data sets; by default HYPERGEN_DATA, else ~/.cache/hypergen.
        device: "auto", "cpu" or "cuda".
        image_size: resize all images to a square of so many pixels a side.
        grey: turn colour images into grey ones.

    Raises:
        InputError: an unknown name, files that cannot be read, or images and labels that no data
            set can be made of.
    """
    return data.load(name, data_dir, choose_device(device), image_size, grey)
