"""What a user is told in one line.

`AttackError` and `TargetError`, of packages that know nothing of this one, are told as an
`InputError` is.
"""


class InputError(ValueError):
    """A user's mistake, said in one line; the command ends with status 2."""


class RunError(RuntimeError):
    """A run that failed, said in one line; the command ends with status 1."""
