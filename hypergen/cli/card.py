"""`hypergen card`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.card import write_card
from hypergen.settings import Settings


@dataclass(frozen=True)
class CardOptions(Settings):
    """Write a network as a folder for the Hugging Face hub, with a model card."""

    file: Path
    """a weight file, such as RUN/samples/sample-0000.safetensors"""
    out: Path | None = None
    """folder for model.safetensors, config.json and README.md, the card; by default beside the
    weight file, called as this without .safetensors"""
    license: str = "unknown"
    """what others may do with the weights, as the hub calls it, such as mit"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(CardOptions)


def run(settings: dict[str, Any], own: CardOptions) -> None:
    """Runs the command."""
    folder = own.out or own.file.with_suffix("")
    write_card(own.file, folder, own.license)
    print(f"written to {folder}: README.md, config.json, model.safetensors")
