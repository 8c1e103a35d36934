from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypergen.registry import Registry


@pytest.fixture
def register() -> Iterator[Callable[[Registry, str, Any], None]]:
    """Registers something as a user would, for one test."""
    added: list[tuple[Registry, str]] = []

    def add(registry: Registry, name: str, thing: Any) -> None:
        registry.register(name)(thing)
        added.append((registry, name))

    yield add
    for registry, name in added:
        registry.drop(name)
