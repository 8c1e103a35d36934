"""`hypergen transfer`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.failures import told_failures
from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.transfer import TransferConfig, transfer_files
from hypergen.report.plots import require_picture, transfer_picture, write_picture
from hypergen.report.tables import transfer_table
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings
from hypergen.storage.atomic import write_json
from hypergen.storage.result_files import require_json, require_writable


@dataclass(frozen=True)
class TransferOptions(Settings):
    """Try on every network what was made to fool each other one."""

    paths: tuple[Path, ...] = ()
    """runs, folders of samples, weight files, or external state dicts"""
    json: Path | None = None
    """write the matrix here"""
    picture: Path | None = None
    """draw the matrix here, in the format that the name ends in (.png, .pdf, .svg, ...)"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(TransferOptions, {"judging": TransferConfig})


def run(settings: dict[str, Any], own: TransferOptions) -> int:
    """Runs the command; status 1 if a network failed."""
    if own.json is not None:
        require_json(own.json)
    if own.picture is not None:
        require_writable(own.picture)
        require_picture(own.picture, "picture")
    device, data_dir = own.machine.chosen, own.machine.data_dir
    with ProgressBar("transfer") as bar:
        result = transfer_files(own.paths, settings["judging"], device, data_dir, bar)
    if own.json is not None:
        write_json(own.json, result)
    if own.picture is not None:
        write_picture(own.picture, transfer_picture(result))
    print(transfer_table(result))
    return told_failures(result)
