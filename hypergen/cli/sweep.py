"""`hypergen sweep`."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.budget import allowed
from hypergen.cli.early import Early
from hypergen.cli.failures import told_failures
from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.config import TrainConfig
from hypergen.experiments import trials
from hypergen.experiments.run_folder import ReportSizes, dated
from hypergen.experiments.sweep import run_sweep
from hypergen.experiments.sweep_config import SweepConfig
from hypergen.presets import PresetName, preset
from hypergen.registry import loaded
from hypergen.report.fronts import front_table
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class SweepOptions(Settings):
    """Train many generators, their settings chosen by Optuna for all measures they are trained for.

    Trials are chosen by validation images; the front is judged once more on test images.
    """

    preset: PresetName | None = None
    """start from the settings of a published protocol"""
    out: Path | None = None
    """the sweep's folder; by default a dated one under runs/"""
    machine: Machine = field(default_factory=Machine)


def defaults(early: Early) -> dict[str, Settings]:
    """Smaller reports than of a single run, and a preset in the place of the usual settings."""
    small: dict[str, Settings] = {"report": ReportSizes(samples=8, sra_samples=2, sra_images=50)}
    return small if early.preset is None else small | {"training": preset(early.preset)}


COMMAND = Command(
    SweepOptions, {"search": SweepConfig, "training": TrainConfig, "report": ReportSizes}, defaults
)


def run(settings: dict[str, Any], own: SweepOptions) -> int:
    """Runs the command; status 1 if some of the front cannot be judged on test images."""
    config: TrainConfig = settings["training"]
    own.machine.chosen  # noqa: B018  (a wrong one is said once, not by every trial)
    folder = own.out or dated("sweep")
    dataset = own.machine.load(config.data, "cpu")
    plugins = tuple(plugin.source for plugin in loaded())  # also those of --target FILE.py:NAME
    machine = trials.Machine(own.machine.device, own.machine.data_dir, plugins, memory=allowed())
    search, sizes = settings["search"], settings["report"]
    try:
        with ProgressBar("sweep") as bar:
            result = run_sweep(config, dataset, folder, search, machine, sizes, bar)
    except KeyboardInterrupt:
        again = f"repeat the command with --out {shlex.quote(str(folder))} to continue"
        raise KeyboardInterrupt(f"; {again}") from None
    print(front_table(result))
    print(f"written to {folder}: results.json, report.html, pictures, one run folder a trial")
    return told_failures(result)
