"""Picture files that a user names."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from hypergen.errors import InputError
from hypergen.tracking import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_picture(file: Path, option: str) -> None:
    """`InputError` unless the name ends in a format that can be drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes.keys() - {"pgf"})  # which wants a LaTeX
    if file.suffix[1:] not in known:
        raise InputError(f"{option}: {file} must end in one of .{', .'.join(known)}")


def write_picture(file: Path, figure: "Figure") -> None:
    """Draws into the file at once or not at all."""
    raw = io.BytesIO()
    figure.savefig(raw, format=file.suffix[1:], dpi=150)
    write_bytes(file, raw.getvalue())
