"""The public names: imported when used, and known to editors."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hypergen

STUB = Path(hypergen.__file__).with_name("__init__.pyi")
SECONDS = 5.0
"""A generous bound: alone on a machine, both take 0.2 s."""


@pytest.mark.parametrize("arguments", [["-c", "import hypergen"], ["-m", "hypergen", "--help"]])
def test_import_and_help_are_quick_and_load_no_torch(arguments):
    # Python lists every module that it imports on standard error.
    command = [sys.executable, "-X", "importtime", *arguments]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < SECONDS
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hypergen" in imported or "hypergen.cli.main" in imported
    assert not imported & {"torch", "numpy", "tyro", "attacks", "targets", "optuna"}


def test_editors_are_told_the_same_names_from_the_same_places():
    tree = ast.parse(STUB.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    told = {each.asname: node.module for node in imports for each in node.names}
    assert told == hypergen._PLACES
    assert {*told, "__version__"} == set(hypergen.__all__) == set(dir(hypergen))


@pytest.mark.parametrize("name", hypergen.__all__)
def test_every_public_name_is_there(name):
    value = getattr(hypergen, name)
    assert getattr(hypergen, name) is value
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        hypergen.trian  # noqa: B018


def test_the_version_stands_in_one_place():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert 'version = { attr = "hypergen.__version__" }' in pyproject.read_text()
