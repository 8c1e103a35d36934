"""Cells of a long comparison: each is computed once and kept, so a killed run goes on."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypergen.baseline import BaselineConfig, train_baselines
from hypergen.cli import choose_device, main
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.tracking import read_json, write_text
from hypergen.weights_file import load_network

RESULTS = Path(__file__).parent / "results"
PLACES = ("only", "rows", "generators", "work", "out", "files", "foreign", "autoattack")
"""Fields of a comparison's configuration that change nothing of what a cell holds."""


def claim(work: Path, config: Any, **more: str) -> dict[str, Any]:
    """The settings, once it is sure that `work` holds cells of no others; makes the folder.

    `more`: whatever else the cells depend on.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in PLACES} | more
    settings = json.loads(json.dumps(settings, default=str))
    path = work / "settings.json"
    if path.exists() and read_json(path) != settings:
        raise InputError(f"{work} holds results of other settings; choose another --work")
    work.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=1) + "\n")
    return settings


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` found, as JSON in `path`; made only if it is not there."""
    if not path.exists():
        write_text(path, json.dumps(make(), indent=1) + "\n")
    return read_json(path)


def hypergen(command: list[str]) -> None:
    """One hypergen command, printed first; `RunError` when it fails."""
    print("hypergen", *command, flush=True)
    if main(command):
        raise RunError(f"failed: hypergen {' '.join(command)}")


def rows(config: Any, known: Iterable[str], make: Callable[[str], Any]) -> dict[str, Any]:
    """A row for each name asked for by `config.only`, and for those that `config.work` holds.

    `make` is called for a name whose row is not kept there.
    """
    names = chosen(config.only, known, lambda name: [cell(config.work, name)])
    return {name: kept(cell(config.work, name), partial(make, name)) for name in names}


def begun(path: Path) -> bool:
    """Whether a weight file is there or half-trained, so that no call sees how long it takes."""
    return path.exists() or path.with_suffix(".checkpoint.safetensors").exists()


def trained(
    path: Path, recipe: BaselineConfig, dataset: Dataset, device: torch.device
) -> nn.Module:
    """The network in a weight file, on `device`; trained only if it is not there."""
    train_baselines({path: recipe}, dataset, device)
    return load_network(path).to(device)


def chosen(
    names: tuple[str, ...],
    known: Iterable[str],
    cells: Callable[[str], Iterable[Path]] = lambda name: (),
) -> list[str]:
    """The names asked for, or all known ones; `InputError` for others.

    With `cells`, the files that hold a name's figures, also the names that have all of theirs: what
    is written is all that was found, by this call and those before.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise InputError(f'unknown "{name}"; known: {", ".join(known)}')

    def found(name: str) -> bool:
        files = list(cells(name))
        return bool(files) and all(file.exists() for file in files)

    return [name for name in known if not names or name in names or found(name)]


def cell(work: Path, name: str) -> Path:
    """The file that holds the figures of a name."""
    return work / f"{name.replace(',', '').replace(' ', '-')}.json"


def about(run: TrainConfig) -> dict[str, Any]:
    """The settings of a run, told with figures of its samples."""
    return {name: value for name, value in asdict(run).items() if name != "base"}


def machine() -> str:
    """What the figures were made on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} {platform.machine()} cores"


def surroundings() -> dict[str, str]:
    """The versions and the machine that figures are told with."""
    return {"torch": torch.__version__, "machine": machine()}


def device() -> torch.device:
    """The GPU where there is one."""
    return choose_device("auto")


def now() -> float:
    """Seconds on a clock, read once the GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def shortened(dataset: Dataset, images: int | None) -> Dataset:
    """With the first `images` of its training images alone; None for all."""
    return dataset if images is None else replace(dataset, train=dataset.train.head(images))


def publish(out: Path, settings: dict[str, Any], found: dict[str, Any]) -> None:
    """Writes what was found with what it was found by to `out`, and prints it."""
    result = {"settings": settings, **surroundings(), **found}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
