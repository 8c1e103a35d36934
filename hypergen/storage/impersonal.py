"""Texts for others to read: they tell no folders, no users and no hosts."""

import re
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"(\w://).*", re.DOTALL)
PATH = re.compile(r"(^|[=:])~?/(?:[^=:]*/)?([^=:/]+)/*(?=$|[=:])")
"""A path from the root or from the home folder, at the start of a text or after = or :."""


def impersonal(word: str) -> str:
    """A word, such as one of a command, that tells of an absolute path its last part alone.

    npz:/home/me/cats.npz becomes npz:cats.npz. The home folder itself becomes ~, and an address
    ends after ://. A relative path stays: it says where to look from here.
    """
    if ADDRESS.search(word):
        return ADDRESS.sub(r"\1...", word)
    home = re.escape(str(Path.home()))
    word = re.sub(rf"(^|[=:]){home}(?=/|$)", r"\1~", word) if len(home) > 1 else word
    return PATH.sub(r"\1\2", word)


def impersonal_tree(tree: Any) -> Any:
    """The same of every text in a tree such as JSON holds; the names in it stay."""
    if isinstance(tree, dict):
        return {name: impersonal_tree(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [*map(impersonal_tree, tree)]
    return impersonal(tree) if isinstance(tree, str) else tree
