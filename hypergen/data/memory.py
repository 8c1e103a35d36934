"""Finds room for images: in memory, or in a temporary file where they would fill it."""

import math
import os
import shutil
import tempfile

import numpy as np

from hypergen.errors import InputError

GIGABYTE = 1e9


def machine_memory() -> int:
    """Bytes of memory that the machine has; where it does not tell (Windows), 8 GB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return int(8 * GIGABYTE)


def is_large(size: int) -> bool:
    """Whether so many bytes are more than a quarter of the machine's memory."""
    return size > machine_memory() // 4


def room(shape: tuple[int, ...], dtype: np.dtype, mapped: bool) -> np.ndarray:
    """An array to fill: in memory, or mapped to a temporary file that goes with it.

    `InputError`: no room for that file.
    """
    if not mapped:
        return np.empty(shape, dtype)
    size, folder = math.prod(shape) * dtype.itemsize, tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:  # writing to a mapped file on a full disk would end the process
        raise InputError(
            f"{size / GIGABYTE:.1f} GB of images need a temporary file, but {folder} has "
            f"{free / GIGABYTE:.1f} GB free: set TMPDIR to a folder on a larger disk"
        )
    with tempfile.TemporaryFile() as file:  # removed once nothing maps it any more
        return np.memmap(file, dtype, "w+", shape=shape)
