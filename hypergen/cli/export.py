"""`hypergen export`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.export import export_files
from hypergen.settings import Settings


@dataclass(frozen=True)
class ExportOptions(Settings):
    """Write networks as ONNX, PyTorch programs or plain weights, checked against PyTorch."""

    paths: tuple[Path, ...] = ()
    """runs, folders of samples, or weight files"""
    format: Literal["onnx", "pt2", "safetensors"] = "onnx"
    """of the files that are written"""
    ensemble: bool = False
    """write the networks as one that votes: images to log-probabilities"""
    int8: bool = False
    """with weights of 8 bits"""
    out: Path | None = None
    """the file, or for several networks the folder; by default beside each network"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(ExportOptions)


def run(settings: dict[str, Any], own: ExportOptions) -> None:
    """Runs the command."""
    for path in export_files(own.paths, own.format, own.out, own.ensemble, own.int8):
        print(path)
