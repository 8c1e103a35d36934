"""The folders that commands work in."""

import os
import tempfile
from pathlib import Path

from hypergen.errors import InputError
from hypergen.storage.atomic import remove_leftovers
from hypergen.storage.lock import LOCK

CONFIG = "config.json"
"""The file in a run's folder that holds its `TrainConfig`."""
LONGEST_NAME, LONGEST_PATH = 255, 4000
"""Bytes of a name, and of a path with room for the files in a folder, that systems take."""


def expanded(path: Path | str) -> Path:
    """Returns the path with a leading ~ or ~NAME replaced by that home.

    `InputError`: no path, no such home, an empty text, a name that is too long, or one that no JSON
    or weight file could hold.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"expected a path, got a {type(path).__name__}")
    text = os.fspath(path)
    if not text:
        raise InputError("expected a path, got an empty text; the current folder is called .")
    # Python keeps a byte that is no UTF-8 as half a character.
    if "\0" in text or text.encode(errors="ignore").decode() != text:
        raise InputError(f"{ascii(text):.60} is no path in UTF-8")
    whole = os.fsencode(text)
    if len(whole) > LONGEST_PATH or max(map(len, whole.split(b"/"))) > LONGEST_NAME:
        raise InputError(f"{text:.60}...: the name is too long")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home folder") from None


def require_folder(path: Path) -> None:
    """Refuses, by an `InputError`, what is no folder to write to and cannot be made one."""
    there = path
    try:
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise InputError(f"{there} is not a folder; choose another `out`")
        # Where files can be made: not in /proc, for one, whatever its permissions say.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        problem = f"cannot be written to ({error.strerror})"
        raise InputError(f"{there} {problem}; choose another `out`") from None


def is_empty(folder: Path) -> bool:
    """Whether the folder holds nothing, or is not there: locks and a kill's leftovers are nothing.

    The latter are removed.
    """
    if not folder.exists():
        return True
    remove_leftovers(folder)
    return all(path.name == LOCK for path in folder.iterdir())
