"""One process at a time works in a folder."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where it is left to the user
    fcntl = None

from hypergen.errors import InputError

LOCK = ".lock"
"""The name of the file that is locked, which stays where anything else is."""


def lock(folder: Path, patience: float = 0.0) -> int:
    """The folder's lock: a file handle, which holds it until all processes that have it end.

    `InputError` when another one has it and keeps it for `patience` seconds.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    end = time.monotonic() + patience
    while fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(handle)
                raise InputError(f"another hypergen is at work in {folder}") from None
            time.sleep(0.2)
    return handle


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, nobody else is; makes the folder. `InputError` as from `lock`.

    A body that writes nothing leaves nothing.
    """
    found = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = lock(folder)
    try:
        yield
    finally:
        os.close(handle)
        if os.listdir(folder) == [LOCK]:
            (folder / LOCK).unlink()
            if not found:
                folder.rmdir()
