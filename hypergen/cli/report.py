"""`hypergen report`."""

import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.pages import Format
from hypergen.experiments.report import report_files
from hypergen.experiments.side_by_side import CompareConfig
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class ReportOptions(Settings):
    """Write what was found as a page: table, charts, attacked images, settings, in one file.

    One path is shown as its results stand. The networks of several are judged anew, on the same
    images.
    """

    paths: tuple[Path, ...] = ()
    """the folder of a run, a sweep, a search or analyses; or several runs, sweeps, folders of
    samples and weight files"""
    out: Path | None = None
    """the file; by default report.html (.md, .pdf) in the folder, of several in the current one"""
    format: Format = "html"
    """html, one file that needs no network; md, the tables as Markdown; or pdf, printed by Chromium
    or Google Chrome"""
    open: bool = False
    """show it in the browser"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(ReportOptions, {"judging": CompareConfig})


def run(settings: dict[str, Any], own: ReportOptions) -> None:
    """Runs the command."""
    with ProgressBar("report") as bar:
        file = report_files(
            own.paths,
            settings["judging"],
            own.out,
            own.format,
            own.machine.chosen,
            own.machine.data_dir,
            bar,
        )
    print(f"written to {file}")
    if own.open:
        webbrowser.open(file.absolute().as_uri())
