"""Files that results are written to: refused before the long work, not after it."""

import os
from pathlib import Path

from hypergen.errors import InputError
from hypergen.storage.atomic import read_json

EVALUATION_KEYS = {"attack", "dataset"}
"""What every JSON of an evaluation has, and networks or groups of them; that of a run's report also
has "value_network"."""


def require_writable(path: Path) -> None:
    """Refuses, by an `InputError`, a path that no file can be written to."""
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}")
    special = path.exists() and not path.is_file()  # a folder, a pipe, ...
    loop = path.is_symlink()  # links that lead to each other lead to no file
    if special or loop or not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written")


def require_json(path: Path) -> None:
    """Refuses, by an `InputError`, a path unless it is free or holds an earlier evaluation."""
    require_writable(path)
    if not path.exists():
        return
    try:
        keys = read_json(path).keys()
    except InputError:
        keys = set()
    judged = keys >= EVALUATION_KEYS and keys & {"networks", "groups"}
    if not judged or "value_network" in keys:
        raise InputError(f"{path} exists and is no earlier result; choose another name")
