"""What ends a command: each is drawn by the case's numbers, and set up in the process itself."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

CLONE_NEWNS, MS_REMOUNT, MS_REC_PRIVATE = 0x20000, 32, 0x4000 | 0x40000
CAP_DAC_OVERRIDE = 1 << 1
PAGE, LARGE = 4096, 2**26
_libc = ctypes.CDLL(None, use_errno=True)
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
KINDS = (*SIGNALS, "damage", "full disk", "read-only", "clock", "second writer")
STATUSES = {
    "SIGKILL": {-9, -27},
    "SIGTERM": {143, -15},
    "SIGINT": {130},
    "damage": {-9, -27},
    "full disk": {1},
    "read-only": {1, 2},
    "clock": {143, -15},
    "second writer": {2},
}
"""The statuses that an ending may have; 0 is that of a command which was faster."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
"""Beside files opened to be written: what changes a folder, as Python tells its audit hooks."""


@dataclass(frozen=True)
class Unbroken:
    """What is known of a command that nothing ends.

    changes: how often it changes a folder or opens a file to write; seconds: of the process's own
    time, or on the clock where it waits for others; size: of all files that it makes, in bytes.
    """

    changes: int
    seconds: float
    size: int
    files: dict[str, Any]


def at_change(number: int, act: Callable[[], object]) -> Callable[[], int]:
    """Lets this process act before its `number`th change of a file or folder, from 1.

    Returns what counts the changes so far.
    """
    count, own = 0, os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            if not (isinstance(args[2], int) and args[2] & WRITING):
                return
            if isinstance(args[0], str) and args[0].startswith("/dev/"):
                return
        elif event not in EVENTS:
            return
        if os.getpid() == own:
            count += 1
            if count == number:
                act()

    sys.addaudithook(hook)
    return lambda: count


def send(number: signal.Signals) -> Callable[[], None]:
    """What sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def armed(kind: str, rng: Random, known: Unbroken, waits: bool) -> tuple[str, Callable[[], object]]:
    """In words when it strikes, and what sets that up in the process that is to be ended."""
    if kind in ("full disk", "second writer"):
        return "", lambda: None
    at = rng.randint(1, known.changes)
    if kind == "read-only":
        at = rng.choice((0, at))
        return f"at change {at}", lambda: closing(at)
    if kind == "clock":
        hours, later = rng.choice((-9000, -1, 1, 9000)), rng.randint(at, known.changes)
        moment = f"by {hours} hours at change {at}, SIGTERM at {later}"

        def jump() -> None:
            at_change(at, lambda: step_clock(3600 * hours))
            at_change(later, send(signal.SIGTERM))

        return moment, jump
    number = SIGNALS.get(kind, signal.SIGKILL)
    if rng.random() < 0.5:
        return f"at change {at}", lambda: at_change(at, send(number))
    seconds = 0.9 * known.seconds * rng.random()
    return f"after {seconds:.3f} s", lambda: after(seconds, number, waits)


def after(seconds: float, number: signal.Signals, waits: bool) -> None:
    """Lets this process get a signal after so much of its own time, or on the clock."""
    timer, alarm = signal.ITIMER_PROF, signal.SIGPROF
    if waits:
        timer, alarm = signal.ITIMER_REAL, signal.SIGALRM
    if number != signal.SIGKILL or waits:
        signal.signal(alarm, lambda *_: os.kill(os.getpid(), number))
    # Else what the system does by itself is as sudden as a kill, also within a library.
    signal.setitimer(timer, max(seconds, 1e-4))


def step_clock(seconds: float) -> None:
    """Lets the clock on the wall jump, for all that asks Python's `time`."""
    real, real_ns = time.time, time.time_ns
    mock.patch.object(time, "time", lambda: real() + seconds).start()
    mock.patch.object(time, "time_ns", lambda: real_ns() + int(seconds * 1e9)).start()


def closing(at: int) -> None:
    """Makes this process's folder read-only before a change (0: from the start), also for root."""
    version, whole = 0x20080522, 0xFFFFFFFF
    header = (ctypes.c_uint32 * 2)(version, 0)
    few = (ctypes.c_uint32 * 6)()
    _libc.capget(header, few)
    few[0] &= whole ^ CAP_DAC_OVERRIDE
    if _libc.capset(header, few):
        raise OSError(ctypes.get_errno(), "cannot give up the right to write everywhere")

    def close() -> None:
        for path in (Path.cwd(), *Path.cwd().rglob("*")):
            if path.is_dir():
                path.chmod(0o555)

    if at == 0:
        close()
    else:
        at_change(at, close)


def reopen(folder: Path) -> None:
    """Makes a folder as writable as it was."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def damage(folder: Path, rng: Random) -> Path | None:
    """Flips a bit of the newest checkpoint in a folder, or cuts it short; None: there is none."""
    found = sorted(folder.rglob("*checkpoint.safetensors"))
    if not found:
        return None
    path = rng.choice(found)
    whole = bytearray(path.read_bytes())
    at = rng.randrange(len(whole))
    if rng.random() < 0.3:
        del whole[at:]
    else:
        whole[at] ^= 1 << rng.randrange(8)
    path.write_bytes(whole)
    return path


def own_mounts() -> bool:
    """Lets this process mount what no other one sees; whether it may."""
    return not (_libc.unshare(CLONE_NEWNS) or _libc.mount(None, b"/", None, MS_REC_PRIVATE, None))


def mount(folder: Path) -> None:
    """Mounts a disk in the memory."""
    _mount(folder, 0, b"size=%d,mode=755" % LARGE)


def leave_room(folder: Path, room: int) -> None:
    """Lets such a disk have room for so many more bytes, in whole pages."""
    about = os.statvfs(folder)
    used = (about.f_blocks - about.f_bfree) * about.f_frsize
    _mount(folder, MS_REMOUNT, b"size=%d" % (used + -(-room // PAGE) * PAGE))


def _mount(folder: Path, flags: int, options: bytes) -> None:
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), "cannot mount")


def unmount(folder: Path) -> None:
    """Takes it away again."""
    _libc.umount2(os.fsencode(folder), 2)


def impossible() -> dict[str, str]:
    """Kind -> why it cannot be tried here."""
    found = {}
    probe = os.fork()  # what it tries this process would keep
    if not probe:
        os._exit(0 if own_mounts() else 1)
    if os.waitpid(probe, 0)[1]:
        found["full disk"] = "no disk can be mounted here"
    return found
