from collections.abc import Iterator

import pytest

from tests.registries import registries_kept


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """Afterwards nothing that an example registered, or that was loaded as a plugin, is there."""
    with registries_kept():
        yield
