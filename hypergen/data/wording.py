"""Words values and errors of others so that they fit on one line of a message."""

import math

LONGEST = 60
"""Characters of a value that a message shows."""


def abridged(value: object) -> str:
    """A value as a message shows it: in at most 63 characters, however long it is."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python prints no very long ones
        sign = "-" if value < 0 else ""
        return f"about {sign}1e{int(value.bit_length() * math.log10(2))}"
    try:
        text = repr(value)
    except Exception:  # of a stranger's object, or of a list of such numbers
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def without_folders(name: str) -> str:
    """A data set's name for others to read: npz:/home/me/cats.npz becomes npz:cats.npz."""
    folders, _, last = name.rstrip("/").rpartition("/")
    kind, colon, _ = folders.partition(":")
    return f"{kind}:{last}" if colon else last


def one_line(error: Exception) -> str:
    """Kind and message of an error, on one line of at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
