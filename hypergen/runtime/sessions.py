"""What work took: every call that had a share in it, its command, its time and its machine."""

import os
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.impersonal import impersonal

if TYPE_CHECKING:
    import torch

SESSIONS = "sessions"
"""Where results, checkpoints and weight files hold the rows of `Sessions`."""
TIMES = SESSIONS, "seconds_trained", "trained_on"
"""All fields in which two results of the same work differ. Whoever compares results bit for bit
leaves out these, and no others."""
_typed: ContextVar[str | None] = ContextVar("typed", default=None)


@contextmanager
def typed(words: Sequence[str]) -> Iterator[None]:
    """Within, sessions are of the command of these words, as they were typed but `impersonal`."""
    token = _typed.set(shlex.join(map(impersonal, words)))
    try:
        yield
    finally:
        _typed.reset(token)


class Sessions:
    """The calls that worked on one thing: earlier ones, and this one, whose time runs.

    Args:
        device: what computes.
        earlier: what a file has under `SESSIONS`; whatever else stands there counts as nothing.
    """

    def __init__(self, device: "torch.device", earlier: Any = None):
        self._begun, self._device, self._earlier = time.monotonic(), device, []
        self.follow(earlier)

    def follow(self, earlier: Any) -> None:
        """Continues what `earlier` sessions have begun; as the argument of that name."""
        if isinstance(earlier, list) and all(map(_is_session, earlier)):
            self._earlier = [*earlier]

    def rows(self) -> list[dict[str, Any]]:
        """A row a session, the last of this call: `command`, `seconds` and the machine.

        command: as it was typed, None for a call from Python. seconds: of the clock, from the
        making of this object. The machine: its `device`, `cores`, `python` and `torch`.
        """
        import torch  # here, for both are slow to import, and every command imports this file

        from hypergen.runtime.device import device_name

        own = {
            "command": _typed.get(),
            "seconds": round(time.monotonic() - self._begun, 2),
            "device": device_name(self._device),
            "cores": cores(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        }
        return [*self._earlier, own]


class StoredSessions(Sessions):
    """Sessions that a file in the folder of what they work on keeps.

    `InputError`: a damaged file.
    """

    def __init__(self, device: "torch.device", folder: Path):
        self._path = folder / f"{SESSIONS}.json"
        known = read_json(self._path) if self._path.exists() else {}
        super().__init__(device, known.get(SESSIONS))

    def save(self) -> None:
        """Writes what has been taken so far, for whoever continues it."""
        write_json(self._path, {SESSIONS: self.rows()})


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_session(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("seconds"), float)
