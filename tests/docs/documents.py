"""What README and the pages of docs/ say, as tests look at it."""

import json
import re
from pathlib import Path

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
