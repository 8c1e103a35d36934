"""Writes files at once or not at all, and reads JSON: every file of a run goes through here."""

import contextlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypergen.errors import InputError

_PART = re.compile(r"\..+\.(\d+)\.part")
"""The name of a file that is being written: `.NAME.PID.part`; of a folder `aside`, one dot more."""
_own_change: dict[Path, int | None] = {}
"""Folder -> its time of change when this process had last written a file in it."""


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    InputError: a file that cannot be read, is no JSON, or holds something else than an object.
    """
    try:
        tree = json.loads(path.read_bytes().decode("utf-8-sig"))  # a byte-order mark is no fault
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no text, no JSON, nested without end
        raise _damaged(path, str(error)) from None
    if not isinstance(tree, dict):
        raise _damaged(path, f"expected an object, got a {type(tree).__name__}")
    return tree


def write_json(path: Path, tree: Any) -> None:
    """Writes `tree` as JSON, at once or not at all."""
    write_text(path, json.dumps(tree, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a small file at once or not at all; what is no text (of a file's name) as escapes."""
    with replacing(path) as part:
        part.write_bytes(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def replacing(path: Path, keep_former: bool = False) -> Iterator[Path]:
    """Yields a file to write to, which becomes `path` at once, or not at all if the body fails.

    It is synced and then renamed: `path` is never seen half-written, not even after a power cut.
    Where `path` is a link, the link stays. What killed processes left beside it is removed.

    keep_former: the file that it replaces becomes `former(path)`.
    """
    path = Path(os.path.realpath(path))
    if _own_change.get(path.parent) != _changed_at(path.parent):  # looking takes its time
        remove_leftovers(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with naming(path, part):
        try:
            part.write_bytes(b"")
            # As the umask wants it, whatever the body makes of the file.
            mode = stat.S_IMODE(part.stat().st_mode)
            yield part
            part.chmod(mode)
            _sync(part)
            if keep_former and path.exists():
                _copy_as_link(path, former(path))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)
        _own_change[path.parent] = _changed_at(path.parent)


@contextlib.contextmanager
def aside(part: Path) -> Iterator[Path]:
    """Yields a file that becomes `part` in the end, alone in a folder that is then removed.

    For libraries which write to another file first: what a kill leaves of that would else have a
    name that nobody knows. The folder is removed as `part` is.
    """
    folder = part.with_name(f".{part.name}")
    folder.mkdir(exist_ok=True)
    try:
        yield folder / part.name
        (folder / part.name).replace(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def former(path: Path) -> Path:
    """Where `replacing` keeps the file that `path` was before."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.name}.previous")


def _copy_as_link(path: Path, copy: Path) -> None:
    """Lets `copy` be the file `path` too, whose place another one takes next."""
    link = copy.with_name(f".{copy.name}.{os.getpid()}.part")
    try:
        os.link(path, link)
        link.replace(copy)
    except OSError:  # no such links on this disk: for a moment there is no `path` then
        path.replace(copy)
    finally:
        link.unlink(missing_ok=True)  # which is left where `copy` was this very file


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Lets an error of the system name the file: a full disk is told without one, or as `part`."""
    try:
        yield
    except OSError as error:
        hidden = error.filename is None or (part and os.fspath(error.filename) == os.fspath(part))
        if error.errno is not None and hidden:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Removes what processes, killed by now, left half-written in `folder`."""
    for part in folder.glob(".*.part"):
        found = _PART.fullmatch(part.name)
        if found and not _is_running(int(found[1])):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _changed_at(folder: Path) -> int | None:
    return folder.stat().st_mtime_ns if folder.exists() else None


def _sync(path: Path) -> None:
    # A rename is only safe on disk after both the file and its folder are.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged ({reason}); restore it, or remove it")
