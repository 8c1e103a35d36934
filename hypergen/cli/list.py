"""`hypergen list`."""

import re
from dataclasses import dataclass, field
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.errors import InputError
from hypergen.experiments import analyze as _analyze  # noqa: F401  (its floors fill registries)
from hypergen.registry import REGISTRIES, Registry, nearest
from hypergen.settings import Settings


@dataclass(frozen=True)
class ListOptions(Settings):
    """List what can be named: targets, activations, attacks, data sets, ..."""

    kind: str | None = None
    """of this kind alone: target, activation, attack, generator, value-network, measure, analysis
    or data-set"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(ListOptions)


def run(settings: dict[str, Any], own: ListOptions) -> None:
    """Runs the command."""
    for registry in chosen(own.kind):
        print(f"{registry.kind}:")
        width = max(map(len, registry.names()), default=0)
        for name in registry.names():
            plugin = registry.origin(name)
            origin = f" [{plugin.source}]" if plugin else ""
            print(f"  {name:<{width}}  {registry.describe(name)}{origin}".rstrip())


def chosen(kind: str | None) -> list[Registry]:
    """The registry of a kind, however it is spelt: "data set", data-sets, dataset; or all."""
    if kind is None:
        return list(REGISTRIES.values())
    known = {_letters(each): registry for each, registry in REGISTRIES.items()}
    if _letters(kind) not in known:
        hint = nearest(kind, REGISTRIES)
        raise InputError(f'unknown kind "{kind}"{hint}; known: {", ".join(REGISTRIES)}')
    return [known[_letters(kind)]]


def _letters(kind: str) -> str:
    return re.sub(r"[^a-z]", "", kind.lower()).removesuffix("s")
