"""The README's list of files is that of the real tree."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def listed() -> set[str]:
    """The paths of the tree in README.md."""
    text = (ROOT / "README.md").read_text()
    (tree,) = re.findall(r"real tree -->\n```\n(.*?)```", text, re.DOTALL)
    paths, folder = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith("  "):
            paths.add(folder + name)
        else:
            folder = name
            paths.add(name)
    return paths


def test_tree_has_a_line_for_each_top_folder_and_each_part_of_the_package():
    ours = ("hypergen", "targets", "attacks", "scripts", "docs", "tests")
    real = {f"{name}/" for name in ours}
    for path in (ROOT / "hypergen").iterdir():
        if path.is_dir() and any(path.rglob("*.py")):
            real.add(f"hypergen/{path.name}/")
        elif path.suffix == ".py" and not path.name.startswith("__"):
            real.add(f"hypergen/{path.name}")
    assert listed() == real


def test_every_line_says_what_is_there():
    text = (ROOT / "README.md").read_text()
    (tree,) = re.findall(r"real tree -->\n```\n(.*?)```", text, re.DOTALL)
    assert all(len(line.split()) > 2 for line in tree.splitlines())


def test_links_lead_somewhere():
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
