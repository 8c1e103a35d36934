"""What pyproject.toml promises: what the package imports, it asks for."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "hypergen", "targets", "attacks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CALLED = {"PIL": "pillow", "onnx_ir": "onnxscript"}
"""What is imported by another name than it is asked for."""


def imported() -> set[str]:
    """What the shipped packages import of others, anywhere in a file, as it is asked for."""
    names = set()
    for path in [each for package in PACKAGES for each in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    foreign = names - {*PACKAGES, *sys.stdlib_module_names}
    return {CALLED.get(name, name) for name in foreign}


def asked(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", text)[0] for text in requirements}


def test_whatever_is_imported_is_asked_for():
    extras = PROJECT["project"]["optional-dependencies"]
    needed = asked(PROJECT["project"]["dependencies"])
    optional = set().union(*(asked(each) for name, each in extras.items() if name != "dev"))
    # One checks exported files where it is, the other is asked for by name where a sweep needs it.
    assert imported() - optional - needed == {"onnxruntime", "grpc"}
    assert not needed & optional


def test_nobody_gets_an_old_requests_who_did_not_ask_for_torchattacks():
    for name, each in PROJECT["project"]["optional-dependencies"].items():
        assert "torchattacks" not in asked(each) or name == "torchattacks"
    assert PROJECT["tool"]["uv"]["override-dependencies"] == ["requests>=2.32"]
