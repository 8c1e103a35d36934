"""Cells of a long comparison: each is computed once and kept, so a killed run goes on."""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hypergen.errors import InputError
from hypergen.tracking import write_text

RESULTS = Path(__file__).parent / "results"
PLACES = ("only", "rows", "work", "out", "files", "foreign", "autoattack")
"""Fields of a comparison's configuration that change nothing of what a cell holds."""


def claim(work: Path, config: Any) -> dict[str, Any]:
    """The settings, once it is sure that `work` holds cells of no others; makes the folder."""
    settings = {name: value for name, value in asdict(config).items() if name not in PLACES}
    settings = json.loads(json.dumps(settings, default=str))
    path = work / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise InputError(f"{work} holds results of other settings; choose another --work")
    work.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=1) + "\n")
    return settings


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` found, as JSON in `path`; made only if it is not there."""
    if not path.exists():
        write_text(path, json.dumps(make(), indent=1) + "\n")
    return json.loads(path.read_text())


def chosen(names: tuple[str, ...], known: Any) -> list[str]:
    """The names asked for, or all known ones; `InputError` for others."""
    for name in names:
        if name not in known:
            raise InputError(f'unknown "{name}"; known: {", ".join(known)}')
    return [name for name in known if not names or name in names]


def machine() -> str:
    """What the figures were made on."""
    return f"{os.cpu_count()} {platform.machine()} cores"


def publish(out: Path, settings: dict[str, Any], found: dict[str, Any], whole: bool) -> None:
    """Prints what was found with what it was found by; written to `out` if it is the whole."""
    result = {"settings": settings, "torch": torch.__version__, "machine": machine(), **found}
    if whole:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
