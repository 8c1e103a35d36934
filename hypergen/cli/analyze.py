"""`hypergen analyze`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.analyze import AnalyzeConfig, analyze_files, default_folder
from hypergen.report.analysis import analysis_table
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class AnalyzeOptions(Settings):
    """Look at the geometry of networks: regions, sensitivity, curvature, ..."""

    paths: tuple[Path, ...] = ()
    """runs (their samples beside their baselines), folders of samples, weight files, or external
    state dicts; each is a group of its own"""
    out: Path | None = None
    """folder for results.json and the pictures; by default "analysis" in that of a run"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(AnalyzeOptions, {"analysis": AnalyzeConfig})


def run(settings: dict[str, Any], own: AnalyzeOptions) -> int:
    """Runs the command; status 1 if an analysis broke on something."""
    out = own.out or default_folder(own.paths)
    with ProgressBar("analyze") as bar:
        result = analyze_files(
            own.paths, settings["analysis"], out, own.machine.chosen, own.machine.data_dir, bar
        )
    for found in result["analyses"].values():
        print(f"{analysis_table(found, result['groups'])}\n")
    print(f"written to {out}: results.json, report.html, and a picture of each analysis")
    return int(any(found["failed"] for found in result["analyses"].values()))
