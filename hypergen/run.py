"""A run from its configuration to its report: one folder, resumable at any point."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hypergen import data
from hypergen.baseline import train_baselines, trained_alongside
from hypergen.config import CONFIG, TrainConfig, require_folder
from hypergen.errors import InputError
from hypergen.lock import LOCK, locked
from hypergen.report import ReportConfig, direct_recipes, report, text_table
from hypergen.sample import load_generator
from hypergen.tracking import read_json, write_text
from hypergen.train import BASE, prepare_base, require_base, train

REPORT, RESULTS = "report.json", "results.json"


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

    Baselines are trained alongside, on a GPU afterwards. With `resume` whatever the folder has
    already is kept and what is missing is done; a report of other sizes is made anew, and stays
    until the new one is there.
    `InputError` for a folder that holds another run, `RunError` for a training that diverges.
    """
    sizes = sizes or ReportConfig()
    check_folder(folder, config, resume)
    own_base = (folder / BASE).exists()  # a run keeps a copy of the network it started from
    if not own_base:
        require_base(config)  # before anything is written
    dataset = data.load(config.dataset, data_dir, device)
    with locked(folder):
        config.save(folder / CONFIG)
        settings = json.dumps(asdict(sizes) | {"baselines": baselines}, indent=2) + "\n"
        result = reported(folder) if report_settings(folder) == (sizes, baselines) else None
        if not (folder / RESULTS).exists():
            write_text(folder / REPORT, settings)
        print(f"run folder: {folder}", flush=True)
        try:
            recipes = {}
            if baselines and result is None:
                prepare_base(config, dataset, device, folder)  # which may be one of them
                recipes = direct_recipes(folder / "baselines", config)
            if device.type == "cpu":
                with trained_alongside(recipes, dataset, device):
                    train(config, dataset, folder, device)
            else:  # which records the steps of one training at a time
                train(config, dataset, folder, device)
                train_baselines(recipes, dataset, device)
            if result is None:
                sampler = load_generator(folder, dataset)
                result = report(folder, sampler, dataset, sizes, recipes)
                write_text(folder / REPORT, settings)  # not before: until now there was the old one
        except KeyboardInterrupt:
            command = f"hypergen train --resume --out {shlex.quote(str(folder))}"
            raise KeyboardInterrupt(f"; continue by {command}") from None
    print(text_table(result))
    print(f"written to {folder}: results.json, scatter.png, report.html, samples/")
    return result


def reported(folder: Path) -> dict[str, Any] | None:
    """What the results.json of a run holds, None where there is none; `InputError`: damaged."""
    path = folder / RESULTS
    if not path.exists():
        return None
    result = read_json(path)
    if not isinstance(result, dict) or "value_network" not in result:
        raise InputError(f"{path} is no report of a run; remove it to have it made anew")
    return result


def report_settings(folder: Path) -> tuple[ReportConfig, bool]:
    """What the report of a run was last asked for, and whether with baselines."""
    try:
        sizes = json.loads((folder / REPORT).read_text())
        return ReportConfig(**{k: v for k, v in sizes.items() if k != "baselines"}), sizes[
            "baselines"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ReportConfig(), True


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
    others = [] if resume or not folder.exists() else list(folder.iterdir())
    if any(path.name != LOCK for path in others):
        raise InputError(f"{folder} is not empty; choose another --out")
