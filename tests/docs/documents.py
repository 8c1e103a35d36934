"""What README and the pages of docs/ say, as tests look at it."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import attacks
import hypergen.analysis  # noqa: F401  (registers those that are shipped)
import targets
from hypergen.catalog import ANALYSES, GENERATORS, MEASURES, VALUE_NETWORKS
from hypergen.data import DATASETS
from hypergen.registry import LOADED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def texts() -> dict[str, str]:
    """The Markdown of README, CONTRIBUTING, every page, and of each notebook's own."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    found = {str(page.relative_to(ROOT)): page.read_text() for page in pages}
    for page in sorted(DOCS.rglob("*.ipynb")):
        cells = json.loads(page.read_text())["cells"]
        own = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[str(page.relative_to(ROOT))] = "\n\n".join(own)
    return found


def blocks(text: str, language: str) -> list[str]:
    """What stands in the fenced blocks of a language; "" are those of none, such as commands."""
    return [code for name, code in CODE.findall(text) if name == language]


def commands(text: str) -> list[str]:
    """The commands of fenced blocks, and what stands in backticks in a sentence, without comments.

    A line that ends in a backslash goes on in the next. Lines of other kinds are what commands
    print, which is given as they print it.
    """
    lines = "\n".join(blocks(text, "")).replace("\\\n", " ").splitlines()
    starts = ("hypergen ", "make ", "python ", "sh ")
    found = [line for line in lines if line.startswith(starts)]
    within = re.findall(r"`([^`]+)`", CODE.sub("", text))
    found += [span for span in within if span.startswith(starts)]
    return [" ".join(line.partition(" #")[0].split()) for line in found]


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
