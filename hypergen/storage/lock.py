"""Lets one process at a time work in a folder."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hypergen.errors import InputError
from hypergen.storage.atomic import remove_leftovers

try:
    import fcntl
except ImportError:  # Windows, where it is left to the user
    fcntl = None

LOCK = ".lock"
"""The name of the file that is locked."""


def lock(folder: Path, patience: float = 0.0) -> int:
    """Returns the folder's lock: a file handle, which holds it until all processes with it end.

    The folder is made if need be; what killed processes left half-written in it is removed.
    `InputError` when another process has the lock and keeps it for `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        folder.mkdir(parents=True, exist_ok=True)  # again: its last holder may have removed it
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        if _acquired(handle, folder / LOCK):
            remove_leftovers(folder)
            return handle
        os.close(handle)
        if time.monotonic() >= end and (folder / LOCK).exists():
            raise InputError(f"another hypergen is at work in {folder}")
        time.sleep(min(0.2, patience))


def unlock(folder: Path, handle: int) -> None:
    """Gives up what `lock` returned and removes its file."""
    # Removed while it is held: afterwards it may be another's.
    (folder / LOCK).unlink(missing_ok=True)
    os.close(handle)


@contextlib.contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Inside, no other process is at work in the folder. `InputError` as from `lock`.

    A body that writes no file leaves nothing, not even folders in it or above it.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = lock(folder, patience)
    before = set(os.listdir(folder))
    try:
        yield
    finally:
        for made in set(os.listdir(folder)) - before:
            for path, _, _ in os.walk(folder / made, topdown=False):  # nothing of a file
                with contextlib.suppress(OSError):  # it holds something
                    os.rmdir(path)
        unlock(folder, handle)
        for path in missing:
            with contextlib.suppress(OSError):  # it holds something, or another's lock by now
                path.rmdir()


def _acquired(handle: int, path: Path) -> bool:
    """Whether the open file is locked now, and is still the one of that name.

    Its last holder may have removed it meanwhile.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
