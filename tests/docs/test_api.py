"""The pages of the API name everything that a user imports, and nothing that is not there."""

import importlib
import re

import pytest

import attacks
import hypergen
import targets
from tests.docs.documents import DOCS

DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+|py:data):: ([\w.]+)$", re.MULTILINE)
NAMES = [
    f"{package.__name__}.{name}"
    for package in (hypergen, attacks, targets)
    for name in package.__all__
]


def documented() -> set[str]:
    """Every name that a page of docs/api describes, with its module."""
    names = set()
    for page in sorted((DOCS / "api").glob("*.md")):
        module = ""
        for directive, name in DIRECTIVE.findall(page.read_text()):
            if directive == "currentmodule":
                module = f"{name}."
            else:
                names.add(name if name.startswith(("hypergen.",)) else module + name)
    return names


def found(name: str) -> object:
    """What stands under a name such as hypergen.data.Split; `AttributeError` for nothing."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_described(name):
    # hypergen has some of targets' names too, which are described once.
    assert name in documented() or f"hypergen.{name.rpartition('.')[2]}" in documented()


def test_what_is_described_is_there():
    assert len(documented()) > 100
    for name in documented():
        found(name)
