"""Looks whether the memory is there; finds room for images that would fill it in a file."""

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hypergen.budget import allowed
from hypergen.errors import InputError

GIGABYTE = 1e9
DRAWN_COPIES = 2
"""Numbers at once for each weight generated: what the prior gives, and what the head adds."""


def machine_memory() -> int:
    """Bytes of memory that the machine has; where it does not tell (Windows), 8 GB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return int(8 * GIGABYTE)


@dataclass(frozen=True)
class Need:
    """Bytes that something takes at least, and what a user can do to have it take fewer.

    is_last: whether that is a last resort, such as to choose another target.
    """

    size: float
    remedy: str
    is_last: bool = False


def drawn_networks(count: int, weights: int, setting: str) -> Need:
    """What it takes to generate `count` networks of so many weights; `setting` says how many."""
    return Need(DRAWN_COPIES * 4.0 * count * weights, f"lower `{setting}`")


def require_memory(needs: Sequence[Need], memory: int | None = None) -> None:
    """`InputError`, with what is best done, unless all needs together are in the memory.

    That is to do without the least need without which the others fit, a last resort last; or,
    where no single one is enough, without the largest.

    memory: bytes there are; by default the machine's.
    """
    memory = machine_memory() if memory is None else memory
    total = sum(need.size for need in needs)
    if total > memory:
        enough = [need for need in needs if total - need.size <= memory]
        best = min(enough, key=lambda need: (need.is_last, need.size), default=None)
        best = best or max(needs, key=lambda need: need.size)
        how = ";" if allowed() is None else " left; raise `memory`, or"
        raise InputError(
            f"this needs about {total / GIGABYTE:,.1f} GB of memory, and there are "
            f"{max(0, memory) / GIGABYTE:,.1f} GB{how} {best.remedy}"
        )


def is_large(size: float, memory: int | None = None) -> bool:
    """Whether so many bytes are more than a quarter of the memory, by default the machine's."""
    return size > (machine_memory() if memory is None else memory) // 4


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
            f"{free / GIGABYTE:.1f} GB free: set TMPDIR to a folder on a larger disk, or have them "
            "made smaller by `image_size`"
        )
    with tempfile.TemporaryFile() as file:  # removed once nothing maps it any more
        return np.memmap(file, dtype, "w+", shape=shape)
