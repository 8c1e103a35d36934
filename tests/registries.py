"""What can be named, as it was before a test."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import attacks
import hypergen.analysis  # noqa: F401  (registers those that are shipped)
import targets
from hypergen.catalog import ANALYSES, GENERATORS, MEASURES, VALUE_NETWORKS
from hypergen.data import DATASETS
from hypergen.registry import LOADED


@contextlib.contextmanager
def registries_kept() -> Iterator[None]:
    """Within, what is registered or loaded as a plugin is forgotten at the end."""
    kept = [targets.TARGETS, targets.ACTIVATIONS, attacks.ATTACKS, LOADED]
    for registry in (DATASETS, GENERATORS, VALUE_NETWORKS, MEASURES, ANALYSES):
        kept.append(registry._entries)  # pyright: ignore
    with contextlib.ExitStack() as stack:
        for entries in kept:
            stack.enter_context(mock.patch.dict(entries))
        yield
