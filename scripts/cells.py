"""Cells of a long comparison: each is computed once and kept, so a killed run goes on."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import tyro
from torch import nn

from hypergen import run as training_run
from hypergen.baseline import NETWORK, BaselineConfig, require_trained_by, train_baselines
from hypergen.checkpoint import CHECKPOINT
from hypergen.cli import (
    BaselineArgs,
    TrainArgs,
    choose_device,
    exit_status,
    parse,
    run_command,
)
from hypergen.config import CONFIG, TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.evaluate import find
from hypergen.picture import write_picture
from hypergen.tracking import read_json, write_text
from hypergen.weights_file import load_network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PLACES = ("only", "rows", "generators", "work", "out", "files", "foreign", "autoattack")
"""Fields of a comparison's configuration that change nothing of what a cell holds."""
SETTINGS = "settings.json"
Config = TypeVar("Config")


def run(
    main: Callable[[Config], None],
    kind: type[Config],
    about: str | None,
    quick: Config | None = None,
) -> NoReturn:
    """A comparison's command line; ends as `hypergen` does: bad input with a line and status 2.

    `quick`: what --quick stands for; whatever else the command line says, it still decides.
    """
    brief: dict[str, Any] = (
        {"default": quick} if quick is not None and "--quick" in sys.argv[1:] else {}
    )
    sys.exit(exit_status(lambda: main(tyro.cli(kind, description=about, **brief))))


def claim(work: Path, config: Any, **more: str) -> dict[str, Any]:
    """The settings, once it is sure that `work` holds cells of no others; makes the folder.

    Settings that nothing has been found by yet, as of a call that failed, are in nobody's way.
    `more`: whatever else the cells depend on.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in PLACES} | more
    settings = json.loads(json.dumps(settings, default=str))
    path = work / SETTINGS
    if path.exists() and read_json(path) != settings and len(list(work.iterdir())) > 1:
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
    """One hypergen command, printed first."""
    print("hypergen", *command, flush=True)
    run_command(command)


def made(folder: Path, command: list[str]) -> list[Path]:
    """The weight files that a command of training leaves in `folder`; it is run, or goes on, first.

    `InputError` for networks trained otherwise: the figures are published beside the command.
    """
    name, *options = command
    if name == "baseline":
        done, config = folder / NETWORK, parse(BaselineArgs, name, options).training
        if done.exists():
            require_trained_by(done, config)
    else:
        done, config = folder / training_run.RESULTS, parse(TrainArgs, name, options).training
        if (folder / CONFIG).exists():
            training_run.check_folder(folder, config, resume=True)
    if not done.exists():
        begun = any((folder / name).exists() for name in (CONFIG, CHECKPOINT))
        hypergen([*command, "--out", str(folder), *(["--resume"] if begun else [])])
    return find([folder])


def attempted(names: Iterable[str], make: Callable[[str], Any]) -> tuple[dict[str, Any], list[str]]:
    """What `make` finds of each name, and those of which it fails: the others are made in spite.

    A training that diverges does so again when it is called again. `RunError` when all fail.
    """
    found, failed = {}, []
    for name in names:
        try:
            found[name] = make(name)
        except RunError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed and not found:
        raise RunError(f"failed: {', '.join(failed)}")
    return found, failed


def rows(
    config: Any, known: Iterable[str], make: Callable[[str], Any]
) -> tuple[dict[str, Any], list[str]]:
    """A row for each name asked for by `config.only`, and for those that `config.work` holds.

    `make` is called for a name whose row is not kept there; where it fails, see `attempted`.
    """
    names = chosen(config.only, known, lambda name: [cell(config.work, name)])
    return attempted(names, lambda name: kept(cell(config.work, name), partial(make, name)))


def begun(path: Path) -> bool:
    """Whether a weight file is there or half-trained, so that no call sees how long it takes."""
    return path.exists() or path.with_suffix(".checkpoint.safetensors").exists()


def trained(
    path: Path, recipe: BaselineConfig, dataset: Dataset, device: torch.device
) -> nn.Module:
    """The network in a weight file, on `device`; trained only if it is not there.

    `InputError` for one trained otherwise.
    """
    if path.exists():
        require_trained_by(path, recipe)
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


def require_start(run: TrainConfig) -> None:
    """`InputError` for a run from a base: this comparison's start at random."""
    if run.base is not None:
        raise InputError(f"--train.base {run.base}: all that is compared here starts from scratch")


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


def publish(
    out: Path,
    settings: dict[str, Any],
    found: dict[str, Any],
    failed: Sequence[str] = (),
    picture: "Figure | None" = None,
) -> None:
    """Writes what was found with what it was found by to `out`, and prints it.

    `picture`: of it, drawn into a .png beside it.
    `RunError` then for what failed, which is not among it.
    """
    result = {"settings": settings, **surroundings(), **found}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(result, indent=1) + "\n")
    if picture is not None:
        write_picture(out.with_suffix(".png"), picture, dpi=120)
    print(json.dumps(result))
    if failed:
        raise RunError(f"{out} lacks what failed: {', '.join(failed)}")
