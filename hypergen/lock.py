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
"""The name of the file that is locked."""


def lock(folder: Path, patience: float = 0.0) -> int:
    """The folder's lock: a file handle, which holds it until all processes that have it end.

    `InputError` when another one has it and keeps it for `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_there(folder / LOCK, handle):
                return handle
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(handle)
                raise InputError(f"another hypergen is at work in {folder}") from None
            time.sleep(0.2)
        os.close(handle)


def is_there(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of that name: its last holder may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Within, nobody else is; makes the folder. `InputError` as from `lock`.

    A body that writes nothing leaves nothing, not even folders in it.
    """
    found = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = lock(folder, patience)
    try:
        yield
    finally:
        # While it is held: afterwards it may be another's, and so may what lies in the folder.
        if not found:
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # it holds something, the folder its lock
                    os.rmdir(path)
        (folder / LOCK).unlink(missing_ok=True)
        os.close(handle)
        if not found and not os.listdir(folder):
            folder.rmdir()
