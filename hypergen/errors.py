"""What a user is told in one line.

`AttackError` and `TargetError`, of packages that know nothing of this one, are told as an
`InputError` is.
"""

import re

REFUSED_STATUS = 74
"""How a trial of a sweep ends where the system refuses it a file: EX_IOERR of sysexits.h."""
_LONG = re.compile(r"\S{400,}")
_LONGEST = 1500
_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")


def option(name: str) -> str:
    """The option of a setting on the command line: `data_dir` becomes --data-dir.

    Messages name settings, in backquotes; the command line tells them with options in their place.
    """
    return f"--{name.replace('_', '-')}"


class InputError(ValueError):
    """A user's mistake, said in one line; the command ends with status 2."""

    def __init__(self, message: str = ""):
        super().__init__(_on_one_line(message))


class RunError(RuntimeError):
    """A run that failed, said in one line; the command ends with status 1."""

    def __init__(self, message: str = ""):
        super().__init__(_on_one_line(message))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: PyTorch's is a RuntimeError, known by its text."""
    torch_says_so = isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(torch_says_so)


def _on_one_line(message: str) -> str:
    """The message with breaks and control characters, as names of a user may have, escaped.

    What is longer than a line should be without a space is shortened, and so is the whole.
    """
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
    text = _LONG.sub(lambda found: f"{found[0][:200]}...{found[0][-100:]}", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-300:]}"
