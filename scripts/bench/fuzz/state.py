"""What a call must leave as it was: the state of the process, and the files of a folder."""

import contextlib
import logging
import os
import random
import resource
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

LARGE = 2**20
"""Bytes of a file whose content is not looked at."""
PATIENCE = 60
"""How many times its seconds a case that was interrupted may take to end."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "PyTorch's random state": (
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
    ),
    "NumPy's random state": (
        lambda: [part.tobytes() if isinstance(part, np.ndarray) else part for part in _numpy()],
        lambda state: np.random.set_state((state[0], np.frombuffer(state[1], "u4"), *state[2:])),
    ),
    "Python's random state": (random.getstate, random.setstate),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "working directory": (os.getcwd, os.chdir),
    "environment": (lambda: dict(os.environ), lambda state: _replace(os.environ, state)),
    "warning filters": (
        lambda: list(warnings.filters),
        lambda state: warnings.filters.__setitem__(slice(None), state),  # type: ignore
    ),
    "signal handlers": (
        lambda: {each: signal.getsignal(each) for each in SIGNALS},
        lambda state: [signal.signal(each, handler) for each, handler in state.items()],
    ),
    "level of logging": (lambda: logging.root.manager.disable, logging.disable),
    "sys.path": (lambda: list(sys.path), lambda state: sys.path.__setitem__(slice(None), state)),
    "NumPy's error handling": (np.geterr, lambda state: np.seterr(**state)),
    "matmul precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
}
"""What it is called, how it is read, and how it is set again."""


def _numpy() -> tuple[Any, ...]:
    return np.random.get_state(legacy=True)  # type: ignore


def _replace(mapping: Any, state: dict[str, str]) -> None:
    mapping.clear()
    mapping.update(state)


def snapshot() -> dict[str, Any]:
    """The value of every switch."""
    return {name: read() for name, (read, _) in SWITCHES.items()}


def put_back(before: dict[str, Any]) -> list[str]:
    """The switches that are not as they were; they are set again."""
    moved = [name for name, (read, _) in SWITCHES.items() if read() != before[name]]
    for name in moved:
        SWITCHES[name][1](before[name])
    return moved


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Path within the folder -> what tells whether a file has changed; () of a folder."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        content: tuple[Any, ...] = ()
        if stat.S_ISREG(about.st_mode):
            large = about.st_size > LARGE
            content = about.st_size, about.st_mtime_ns if large else path.read_bytes()
        found[str(path.relative_to(folder))] = content
    return found


def leftovers(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The new paths that no command may leave, however it ends."""
    return [
        path
        for path in after
        if path not in before and (path.endswith(".part") or path.endswith(".lock"))
    ]


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The paths that came, went or changed."""
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Lets what takes longer be interrupted, as by Ctrl-C.

    seconds: of this process's own time, or six times as many of waiting for others, such as trials.
    What does not end even then, for `PATIENCE` times as long, ends the process.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def wake(*_: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGPROF, interrupt), signal.signal(signal.SIGALRM, wake)
    signal.setitimer(signal.ITIMER_PROF, seconds, 4 * seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), former, strict=True):
            signal.signal(number, handler)
