"""The folders that commands work in."""

import os
from pathlib import Path

from hypergen.errors import InputError
from hypergen.storage.atomic import remove_leftovers
from hypergen.storage.lock import LOCK

CONFIG = "config.json"
"""The file in a run's folder that holds its `TrainConfig`."""


def expanded(path: Path | str) -> Path:
    """Returns the path with a leading ~ or ~NAME replaced by that home. `InputError`: no such."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home folder") from None


def require_folder(path: Path) -> None:
    """Refuses, by an `InputError`, what is no folder to write to and cannot be made one."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{there} is not a folder; choose another `out`")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} cannot be written to; choose another `out`")


def is_empty(folder: Path) -> bool:
    """Whether the folder holds nothing, or is not there: locks and a kill's leftovers are nothing.

    The latter are removed.
    """
    if not folder.exists():
        return True
    remove_leftovers(folder)
    return all(path.name == LOCK for path in folder.iterdir())
