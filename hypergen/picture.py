"""Picture files, some of names that a user chose."""

from pathlib import Path
from typing import TYPE_CHECKING

from hypergen.errors import InputError
from hypergen.tracking import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_picture(file: Path, option: str) -> None:
    """`InputError` unless the name ends in a format that can be drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes.keys() - {"pgf"})  # which wants a LaTeX
    if file.suffix[1:] not in known:
        raise InputError(f"{option}: {file} must end in one of .{', .'.join(known)}")


def write_picture(file: Path, figure: "Figure", dpi: int = 150) -> None:
    """Draws into the file, of `dpi` dots an inch, at once or not at all."""
    with replacing(file) as part:
        figure.savefig(part, format=file.suffix[1:], dpi=dpi)
