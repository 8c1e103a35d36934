"""What the scripts share: results kept one by one, so that a killed run goes on, and their JSON."""

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import tyro
from torch import nn

from hypergen import data
from hypergen.cli.main import exit_status, run_command
from hypergen.config import DataConfig, TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.baseline import NETWORK, require_trained_by, train_baselines
from hypergen.experiments.run import load_generator, train_generator
from hypergen.experiments.run_folder import RESULTS as REPORT
from hypergen.experiments.run_folder import ReportConfig, RunSettings, require_free
from hypergen.report.plots import write_pictures
from hypergen.runtime.device import choose_device
from hypergen.runtime.progress import SILENT
from hypergen.settings import Settings
from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import CONFIG
from hypergen.storage.network_files import find
from hypergen.storage.weights import load_network
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.length import with_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
"""Where published figures are; keys in these files stay as they were published."""
PLACES = ("only", "rows", "generators", "work", "out", "files", "external", "autoattack")
"""Fields of a comparison's configuration that change nothing of what a cached result holds."""
SETTINGS = "settings.json"
Config = TypeVar("Config")


def run(
    main: Callable[[Config], None],
    kind: type[Config],
    about: str | None,
    quick: Config | None = None,
) -> NoReturn:
    """Runs a script's command line and exits as `hypergen` does: 2 for bad input, 1 for a failure.

    quick: the defaults that --quick stands for; whatever else the command line says still decides.
    """
    brief: dict[str, Any] = (
        {"default": quick} if quick is not None and "--quick" in sys.argv[1:] else {}
    )
    sys.exit(exit_status(lambda: main(tyro.cli(kind, description=about, **brief))))


def settings_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration that decide the results, as JSON holds them."""
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    values = {
        name: value.flat() if isinstance(value, Settings) else value
        for name, value in values.items()
        if name not in PLACES
    }
    return json.loads(json.dumps(values, default=str))


def ensure_same_settings(work: Path, config: Any, **more: str) -> dict[str, Any]:
    """Returns the settings, once it is sure that `work` holds results of no others.

    Makes the folder. Settings that nothing has been found by yet, as of a call that failed, are in
    nobody's way.

    more: whatever else the results depend on.
    """
    settings = settings_of(config) | more
    path = work / SETTINGS
    if path.exists() and read_json(path) != settings and len(list(work.iterdir())) > 1:
        raise InputError(f"{work} holds results of other settings; choose another --work")
    work.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
    return settings


def cached_json(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what `make` found, as JSON in `path`; it is called only if the file is not there."""
    if not path.exists():
        write_json(path, make())
    return read_json(path)


def hypergen(command: list[str]) -> None:
    """Runs one hypergen command, printed first. `RunError` if it could not do all of its work."""
    print("hypergen", *command, flush=True)
    if run_command(command):
        raise RunError(f"failed: hypergen {' '.join(command)}")


def parsed(command: list[str]) -> tuple[dict[str, Any], Any]:
    """The settings, by name, and the further options that a hypergen command line stands for."""
    name, *options = command
    return importlib.import_module(f"hypergen.cli.{name}").COMMAND.parse(name, options)


def train_or_load(folder: Path, command: list[str]) -> list[Path]:
    """The weight files that a command of training leaves in `folder`; it is run, or goes on, first.

    `InputError` for networks trained otherwise: the figures are published beside the command.
    """
    settings, _ = parsed(command)
    config = settings["training"]
    done = folder / (NETWORK if command[0] == "baseline" else REPORT)
    started = any((folder / name).exists() for name in (CONFIG, CHECKPOINT))
    if done.exists() or started:
        dataset = load(config.data, torch.device("cpu"))
        if command[0] == "train":
            whole = with_steps(config, dataset)
            asked = RunSettings(whole, dataset.info, settings["report"])
            require_free(folder, asked, resume=True)
        elif done.exists():
            require_trained_by(done, config, dataset)
    if not done.exists():
        hypergen([*command, "--out", str(folder), *(["--resume"] if started else [])])
    return find([folder])


def generator(folder: Path, config: TrainConfig, dataset: Dataset) -> Sampler:
    """Trains a generator in `folder`, or goes on, without a report; returns what draws from it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = with_steps(config, dataset)
    RunSettings(config, dataset.info, ReportConfig(), baselines=False).save(folder)
    train_generator(config, dataset, folder, device(), SILENT)
    return load_generator(folder, dataset)


def try_all(names: Iterable[str], make: Callable[[str], Any]) -> tuple[dict[str, Any], list[str]]:
    """What `make` finds for each name, and the names for which it fails; none keeps others back.

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

    `make` is called for a name whose row is not there; where it fails, see `try_all`.
    """
    names = chosen(config.only, known, lambda name: [cell(config.work, name)])
    return try_all(names, lambda name: cached_json(cell(config.work, name), partial(make, name)))


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
        require_trained_by(path, recipe, dataset)
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


def require_start(config: TrainConfig) -> None:
    """`InputError` for a run from a base: what is compared here starts from scratch."""
    if config.start is not None:
        raise InputError(f"--train.base {config.start}: what is compared here starts from scratch")


def about(config: TrainConfig) -> dict[str, Any]:
    """The settings of a run, told with figures of its samples."""
    return {name: value for name, value in config.flat().items() if name != "base"}


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


def spent() -> float:
    """As `now`, but on a CPU the seconds of this process, which other work does not lengthen."""
    return now() if device().type == "cuda" else time.process_time()


def load(images: DataConfig, device: torch.device) -> Dataset:
    """The data set that settings name, on `device`."""
    return data.load(images.name, None, device, images.image_size, images.grey)


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

    picture: of it, drawn into a .png and a .svg beside it.
    `RunError` then for what failed, which is not among it.
    """
    result = {"settings": settings, **surroundings(), **found}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    if picture is not None:
        write_pictures(out, picture, dpi=120)
    print(json.dumps(result))
    if failed:
        raise RunError(f"{out} lacks what failed: {', '.join(failed)}")
