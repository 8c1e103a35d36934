"""`hypergen sample`."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.opening import opened
from hypergen.cli.options import Command
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig
from hypergen.knob import asked_text
from hypergen.report.fronts import curve_table
from hypergen.report.tables import estimates_table, evaluation_table
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class SampleOptions(Settings):
    """Draw networks from a trained generator; rank them, verify the best, write them."""

    run: Path
    """folder of a run"""
    out: Path | None = None
    """folder for the networks; by default samples-seedS in that of the run, S being the seed"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(SampleOptions, {"sampling": SampleConfig})


def run(settings: dict[str, Any], own: SampleOptions) -> None:
    """Runs the command."""
    options: SampleConfig = settings["sampling"]
    out = own.out or own.run / f"samples-seed{options.seed}"
    sampler, dataset = opened(own.run, out, own.machine)
    with ProgressBar("sample") as bar:
        result = draw_samples(sampler, dataset, out, options, bar)
    if "curve" in result:
        print(curve_table(result))
        print(f"written to {out}: curve.json, curve.png and {len(result['networks'])} networks")
        return
    if options.accuracy_at_least is not None:
        least, asked = 100 * options.accuracy_at_least, asked_text(result["networks"][0])
        print(f"{asked}: the largest with accuracy {least:g} % on validation images")
    if options.keep is None:
        print(estimates_table(result["networks"], dataset.name))
        command = shlex.join(own.machine.command("evaluate", str(out)))
        print(f"best of the value network first; measured by {command}")
        return
    print(evaluation_table(result))
    print(f"best {options.keep} of {options.count} by successive halving, best first")
