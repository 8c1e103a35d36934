"""What every file keeps to: how long it and its functions are, and how deep these nest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = "hypergen", "targets", "attacks", "scripts"
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
LINES, FUNCTION_LINES, NESTING = 300, 50, 5
BLOCKS = ast.For, ast.While, ast.If, ast.With, ast.Try


def functions(path: Path) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def depth(node: ast.AST) -> int:
    """How deep blocks nest below a node; an elif is not deeper than its if."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        inner = depth(child)
        is_elif = isinstance(node, ast.If) and child in node.orelse and isinstance(child, ast.If)
        deepest = max(deepest, inner + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= LINES
    for function in functions(path):
        assert code_lines(function) <= FUNCTION_LINES, function.name
        assert depth(function) <= NESTING, function.name
