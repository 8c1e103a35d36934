"""A run from its configuration to its report: one folder, resumable at any point."""

import json
from pathlib import Path
from typing import Any

import torch

from hypergen import data
from hypergen.baseline import describe
from hypergen.config import BASE_METHODS, TrainConfig, require_folder
from hypergen.errors import InputError
from hypergen.report import ReportConfig, report, text_table
from hypergen.sample import load_generator
from hypergen.train import BASE, train
from hypergen.weights_file import load_network, read_metadata

CONFIG, RESULTS = "config.json", "results.json"


def run(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    data_dir: Path | None = None,
    sizes: ReportConfig | None = None,
    baselines: bool = True,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains in `folder`, measures, prints the table; what results.json holds.

    With `resume` whatever the folder has already is kept and what is missing is done. `InputError`
    for a folder that holds another run, `RunError` for a training that diverges.
    """
    check_folder(folder, config, resume)
    own_base = (folder / BASE).exists()  # a run keeps a copy of the network it started from
    if config.base is not None and config.base not in BASE_METHODS and not own_base:
        check_base(Path(config.base), config)
    dataset = data.load(config.dataset, data_dir, device)
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / CONFIG)
    train(config, dataset, folder, device)
    results = folder / RESULTS
    if results.exists():
        result = json.loads(results.read_text())
    else:
        sampler = load_generator(folder, dataset)
        result = report(folder, sampler, dataset, sizes or ReportConfig(), baselines)
    print(text_table(result))
    print(f"written to {folder}: results.json, scatter.png, report.html, samples/")
    return result


def check_base(path: Path, config: TrainConfig) -> None:
    """`InputError` unless `path` is a network of this run's target; before anything is written."""
    load_network(path)
    wanted = describe(config.target, config.activation, config.dataset)
    if read_metadata(path)["layout"] != wanted["layout"]:
        raise InputError(
            f"--base: {path} holds another network than {config.target} for {config.dataset}"
        )


def check_folder(folder: Path, config: TrainConfig, resume: bool) -> None:
    """`InputError` when `folder` is in the way of this run."""
    if resume:
        differences = TrainConfig.load(folder / CONFIG).differences(config)
        if differences:
            raise InputError(
                f"{folder} was started with other settings ({'; '.join(differences)}); "
                "resume it with its own, or choose another --out"
            )
    elif (folder / CONFIG).exists():
        raise InputError(f"{folder} already holds a run; add --resume, or choose another --out")
    require_folder(folder)
    if not resume and folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose another --out")
