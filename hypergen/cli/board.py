"""`hypergen board`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.experiments.board import BOARD, PAGE, BoardConfig, add_to_board
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class BoardOptions(Settings):
    """Judge a small network, and add it to a table of such: hypergen board add FILE."""

    action: Literal["add"]
    """what to do: add"""
    file: Path
    """a weight file, or an external state dict"""
    out: Path = Path("board")
    """folder of the board: of board.json, and of board.md made from it"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(BoardOptions, {"row": BoardConfig})


def run(settings: dict[str, Any], own: BoardOptions) -> None:
    """Runs the command."""
    device, data_dir = own.machine.chosen, own.machine.data_dir
    with ProgressBar("board") as bar:
        row = add_to_board(own.out, own.file, settings["row"], device, data_dir, bar)
    low, high = (100 * end for end in row["interval"])
    print(
        f"{row['name']}: accuracy {100 * row['accuracy']:.2f} %, SRA {100 * row['sra']:.1f} % of "
        f"{row['images']} images (95 %: {low:.1f} to {high:.1f})"
    )
    print(f"written to {own.out}: {BOARD}, {PAGE}")
