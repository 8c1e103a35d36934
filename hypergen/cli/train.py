"""`hypergen train`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.early import Early
from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.cli.wording import in_options
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments.run import require_startable
from hypergen.experiments.run import run as run_training
from hypergen.experiments.run_folder import (
    ReportConfig,
    RunSettings,
    dated,
    is_run,
)
from hypergen.experiments.run_page import CHECKS
from hypergen.presets import PresetName, preset
from hypergen.report.summary import next_commands, run_table
from hypergen.report.verdict import verdict
from hypergen.runtime import crew, ranks
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings
from hypergen.storage.folders import expanded


@dataclass(frozen=True)
class TrainOptions(Settings):
    """Train a generator of network weights, then measure its samples beside direct training."""

    preset: PresetName | None = None
    """start from the settings of a published protocol"""
    out: Path | None = None
    """the run's folder; by default a dated one under runs/"""
    resume: bool = False
    """continue the run in `out` from its last checkpoint"""
    no_baseline: bool = False
    """do not train networks directly for comparison"""
    machine: Machine = field(default_factory=Machine)


def defaults(early: Early) -> dict[str, Settings]:
    """A preset, or the settings of the run to resume, in the place of the usual ones."""
    if early.resume:
        if early.out is None:
            raise InputError("`resume` needs `out`, the folder of the run to continue")
        if early.preset is not None:
            raise InputError("`preset` with `resume`: a run is continued with its own settings")
        begun = RunSettings.load(expanded(early.out))
        return {"training": begun.config, "report": begun.report}
    return {} if early.preset is None else {"training": preset(early.preset)}


COMMAND = Command(TrainOptions, {"training": TrainConfig, "report": ReportConfig}, defaults)


def run(settings: dict[str, Any], own: TrainOptions) -> None:
    """Runs the command."""
    if ranks.restarts() and own.out is None:
        raise InputError("torchrun's --max-restarts needs `out`, the folder to go on in")
    folder = own.out or dated("train")
    config: TrainConfig = settings["training"]
    device = own.machine.chosen
    baselines = not own.no_baseline
    resume = own.resume or (ranks.restarted() and is_run(folder))
    if resume:
        baselines = baselines and RunSettings.load(folder).baselines
    dataset = own.machine.load(config.data, device)
    asked = RunSettings(config, dataset.info, settings["report"], baselines).on(dataset)
    require_startable(asked, dataset, folder, resume)
    print(f"run folder: {folder}", flush=True)  # not before it is known that there will be one
    try:
        with ProgressBar("train") as bar:
            done = run_training(asked, dataset, folder, device, resume, bar)
    except KeyboardInterrupt:
        command = shlex.join(own.machine.command("train", "--resume", "--out", str(folder)))
        raise KeyboardInterrupt(f"; continue by {command}") from None
    print(run_table(done.results))
    print()
    print(in_options(verdict(done.results)))
    print(f"written to {folder}: results.json, scatter.png, report.html, samples/")
    print(next_commands(suggestions(folder, done.results["measures"], own.machine)))


def assist(settings: dict[str, Any], own: TrainOptions) -> None:
    """What a rank does that is not the first: it has the same images, and waits for its share."""
    crew.serve(own.machine.load(settings["training"].data, own.machine.chosen))


def suggestions(
    folder: Path, measures: Sequence[str], machine: Machine
) -> list[tuple[str, list[str]]]:
    """What to do next with a run for these measures: a purpose and the command's words each."""
    first = folder / "samples" / "sample-0000.safetensors"
    others = [f"--measure {name}" for name in measures if name not in ("accuracy", "robustness")]
    judge = " ".join(["--attack standard --images 100 --checks", *others])
    checks = "--json", str(folder / CHECKS)

    def words(command: str, path: Path, options: str) -> list[str]:
        return machine.command(command, str(path), *options.split())

    return [
        ("draw 100 more and keep the best 5:", words("sample", folder, "--count 100 --keep 5")),
        (
            "judge samples by the standard attacks, and look for signs of masked gradients:",
            [*words("evaluate", folder, judge), *checks],
        ),
        ("write one for use elsewhere:", words("export", first, "--format onnx")),
    ]
