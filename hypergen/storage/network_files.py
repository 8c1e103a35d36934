"""The weight files of networks that are to be evaluated together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

import targets
from hypergen.errors import InputError
from hypergen.storage.external import load_external
from hypergen.storage.folders import CONFIG, expanded
from hypergen.storage.metadata import origin
from hypergen.storage.weights import is_own, load_network, read_metadata


class ImageInfo(Protocol):
    """What an external network is built for: a `DatasetInfo`, say."""

    @property
    def num_classes(self) -> int:
        """K"""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C,H,W)"""
        ...


@dataclass(frozen=True)
class NetworkFile:
    """A network with the file that it is of.

    metadata: what the file says of how the network was made (see `storage.metadata.origin`); of
        how good it is a file may say anything, and that is left out.
    """

    path: Path
    module: nn.Module
    metadata: dict[str, Any]


def find(paths: Iterable[Path]) -> list[Path]:
    """Returns the weight files that runs, folders and files stand for, in order.

    Of a run these are its samples. `InputError`: a path that is not there, or no file at all.
    """
    files: list[Path] = []
    for path in map(expanded, paths):
        if path.is_dir():
            folder = path / "samples" if (path / CONFIG).exists() else path
            inside = sorted(folder.glob("*.safetensors"))
            if not inside:
                raise InputError(f"{folder} holds no .safetensors files")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    if not files:
        raise InputError("no weight files: give a run, a folder of samples or a weight file")
    return files


def open_networks(
    paths: Iterable[Path],
    target: str | None = None,
    activation: str = "relu",
    info: ImageInfo | None = None,
) -> list[NetworkFile]:
    """Opens weight files, in order; those with metadata are taken at their word.

    target, activation, info: what external state_dicts, which do not say it, are built as.

    Raises:
        InputError: a file that cannot be opened, external ones without `target` and `info`, or a
            `target` that no file needs.
    """
    networks = []
    for path in paths:
        if is_own(path):
            networks.append(NetworkFile(path, load_network(path), origin(read_metadata(path))))
            continue
        if target is None:
            raise InputError(f"{path} does not say what it holds; name its `target`")
        if info is None:
            raise InputError(f"{path} does not say what it is for; name a `dataset`")
        with torch.random.fork_rng(devices=[]):  # its own numbers are replaced
            module = targets.build(target, activation, info.num_classes, info.input_shape)
        metadata = {"target": target, "activation": activation}
        networks.append(NetworkFile(path, load_external(path, module), metadata))
    if target is not None and all("layout" in network.metadata for network in networks):
        raise InputError("`target` is of external state_dicts; these files say what they hold")
    return networks


def agreed(networks: Sequence[NetworkFile], field: str) -> Any:
    """Returns the value of a field of the metadata that all files share; None if none has it.

    `InputError` if they differ.
    """
    values = {network.metadata.get(field) for network in networks} - {None}
    if len(values) > 1:
        differing = ", ".join(sorted(map(str, values)))
        raise InputError(f"the networks differ in {field} ({differing}); choose one by `{field}`")
    return values.pop() if values else None
