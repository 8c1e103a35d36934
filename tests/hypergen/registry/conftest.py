import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from hypergen.registry import LOADED, REGISTRIES, Registry

REGISTER = "from hypergen.registry import REGISTRIES\nregister = REGISTRIES['widget'].register\n"
"""The first two lines of a plugin."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """An empty current folder, without plugins; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYPERGEN_PLUGINS", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within a second
    before = set(sys.modules)
    with mock.patch.dict(LOADED, clear=True), mock.patch.dict(REGISTRIES, clear=True):
        yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def shipped() -> Callable:
    def shipped(size: int = 1) -> int:
        """A widget of any size.

        And more about it.
        """
        return size

    return shipped


@pytest.fixture
def widgets(folder, shipped) -> Registry[Callable]:
    """Two of their own name and a family."""

    def family(name: str) -> Callable | None:
        return partial(shipped, int(name[5:])) if name.startswith("size-") else None

    return Registry("widget", {"small": shipped, "large": partial(shipped, 9)}, family)


@pytest.fixture
def write(folder) -> Callable[..., str]:
    """Writes a plugin: `REGISTER`, then lines from the third on; returns its name."""

    def write(name: str, *lines: str) -> str:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(REGISTER + "\n".join(lines) + "\n")
        return name

    return write
