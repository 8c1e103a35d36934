"""What a user is told in one line, and the hint for a mistyped name.

`AttackError` and `TargetError`, of packages that know nothing of this one, are told as an
`InputError` is.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's mistake, said in one line; the command ends with status 2."""


class RunError(RuntimeError):
    """A run that failed, said in one line; the command ends with status 1."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """The hint ` (did you mean "x"?)` for the choice closest to `name`, or an empty string."""
    known = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(name.lower(), known, n=1)
    return f' (did you mean "{known[matches[0]]}"?)' if matches else ""
