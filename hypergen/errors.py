"""What a user is told in one line.

`AttackError` and `TargetError`, of packages that know nothing of this one, are told as an
`InputError` is.
"""


class InputError(ValueError):
    """A user's mistake, said in one line; the command ends with status 2."""

    def __init__(self, message: str = ""):
        super().__init__(_on_one_line(message))


class RunError(RuntimeError):
    """A run that failed, said in one line; the command ends with status 1."""

    def __init__(self, message: str = ""):
        super().__init__(_on_one_line(message))


def _on_one_line(message: str) -> str:
    """The message without breaks and control characters, which names of a user may have in them."""
    words = " ".join(message.splitlines())
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)
