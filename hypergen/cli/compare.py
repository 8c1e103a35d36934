"""`hypergen compare`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.cli.resuming import found_meanwhile
from hypergen.experiments.side_by_side import CompareConfig, compare
from hypergen.report.comparison import comparison_picture, comparison_table, settings_table
from hypergen.report.plots import require_picture, write_picture
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings
from hypergen.storage.atomic import write_json
from hypergen.storage.result_files import require_writable


@dataclass(frozen=True)
class CompareOptions(Settings):
    """Set runs, sweeps, folders of samples and single networks side by side, on the same images."""

    paths: tuple[Path, ...] = ()
    """two or more groups: runs, sweeps (the runs on their front), folders, weight files"""
    json: Path | None = None
    """write the figures here; what is found meanwhile stands beside it, in NAME.masks.jsonl, and
    the same call goes on from there"""
    picture: Path | None = None
    """draw accuracy against robustness here, a point a network (.png, .pdf, .svg, ...)"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(CompareOptions, {"judging": CompareConfig})


def run(settings: dict[str, Any], own: CompareOptions) -> None:
    """Runs the command."""
    with found_meanwhile(own.json) as cache:
        if own.picture is not None:
            require_writable(own.picture)
            require_picture(own.picture, "picture")
        device, data_dir = own.machine.chosen, own.machine.data_dir
        with ProgressBar("compare") as bar:
            result = compare(own.paths, settings["judging"], device, data_dir, cache, bar)
    if own.json is not None:
        write_json(own.json, result)
    if own.picture is not None:
        write_picture(own.picture, comparison_picture(result))
    print(comparison_table(result))
    differing = settings_table(result)
    if differing is not None:
        print(f"\n{differing}")
