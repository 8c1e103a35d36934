"""What the registries say of a name that they do not hold."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, else all of them."""
    names = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f"; did you mean {names[close[0]]!r}?"
    return f"; known: {', '.join(names.values())}"
