"""How much memory the process may use: what was allowed, or else half of what is free."""

import contextlib
import ctypes
import functools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from hypergen.errors import InputError

UNITS = {unit: 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB"))} | {
    unit: 1024**power for power, unit in enumerate(("", "KiB", "MiB", "GiB", "TiB"))
}
"""Bytes by the name of the unit; none is bytes."""
LEAST = UNITS["MB"]
DEFAULT_SHARE = 0.5
"""Of what is free at the start, where nothing was said."""
MEMINFO, OWN_CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
NAMES_IN_CGROUP = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files with the limit and what is used, and the line of droppable files, in cgroups v2 and v1."""

_allowed: int | None = None


def limit_memory(size: str | int | None = None) -> None:
    """Sets how much memory this process may use from now on, whatever it computes.

    Work that would take more is done in smaller parts: fewer networks or images at a time, and what
    a gradient needs is computed twice instead of kept. Results stay the same, up to rounding.

    Args:
        size: bytes, or a text such as "4GiB" or "1500MB"; None for the usual, half of what is free.
            On a CPU all that the process holds counts, on a GPU what its chunks keep there.

    Raises:
        InputError: no such size, or less than the process holds already.
    """
    global _allowed
    wanted = None if size is None else parse_size(size)
    if wanted is not None and wanted < held():
        raise InputError(
            f"`memory` {size}: the program itself takes {held() / UNITS['GiB']:.2f} GiB already"
        )
    _allowed = wanted


@contextlib.contextmanager
def limited_memory(size: str | int | None) -> Iterator[None]:
    """Does inside as `limit_memory`, and sets it back."""
    before = _allowed
    limit_memory(size)
    try:
        yield
    finally:
        limit_memory(before)


def allowed() -> int | None:
    """The bytes that were allowed; None where nothing was said."""
    return _allowed


def parse_size(size: str | int) -> int:
    """Bytes of a number, or of a text such as "4GiB"; `InputError` for anything else."""
    names = {unit.lower(): factor for unit, factor in UNITS.items()}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", str(size).strip().lower(), re.ASCII)
    if match is None or match[2] not in names or len(match[1]) > 20:
        raise InputError(f"`memory` must be a size such as 4GiB or 1500MB, got {size!s:.60}")
    found = int(float(match[1]) * names[match[2]])
    if found < LEAST:
        raise InputError(f"`memory` must be at least 1MB, got {size!s:.60}")
    return found


def budget() -> int:
    """The bytes that this process may use on the machine, all that it holds already included."""
    return _usual() if _allowed is None else _allowed


def room() -> int:
    """How many of these bytes are left now."""
    return budget() - held()


@functools.cache
def _usual() -> int:
    """Found once: what the process takes later is not free any more."""
    return held() + int(DEFAULT_SHARE * free_memory())


def free_memory() -> int:
    """Bytes that are free on the machine, or in the container (cgroup) that the process is in."""
    return int(min(_free_on_machine(), *_free_in_cgroups(), math.inf))


def _free_on_machine() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        (line,) = (t for t in MEMINFO.read_text().splitlines() if t.startswith("MemAvailable"))
        return 1024.0 * int(line.split()[1])
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    return 8.0 * UNITS["GB"]  # where the system does not tell


def _free_in_cgroups() -> Iterator[float]:
    """What each limit of a container leaves; files that could be dropped do not count as used."""
    with contextlib.suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds not in NAMES_IN_CGROUP:
                continue
            base = CGROUPS / kinds
            own = base / path.strip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(base):  # which inside a container may be all there is
                    yield from _left_in(folder, *NAMES_IN_CGROUP[kinds])


def _left_in(folder: Path, limit: str, used: str, cache: str) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
        most = int((folder / limit).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        dropped = sum(int(line.split()[1]) for line in lines if line.split()[0] == cache)
        yield max(0.0, most - int((folder / used).read_text()) + dropped)


def held() -> int:
    """Bytes of the machine that the process holds, without what it keeps for its next request.

    0 where the system does not tell.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return max(0, pages * os.sysconf("SC_PAGE_SIZE") - _kept_by_malloc())


class _MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 gives."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@functools.cache
def _mallinfo() -> ctypes._CFuncPtr | None:  # pyright: ignore
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return None
    function.restype = _MallInfo
    return function


def _kept_by_malloc() -> int:
    """Bytes that were freed, and that the C library keeps for what is asked for next."""
    function = _mallinfo()
    return 0 if function is None else function().fordblks
