"""`hypergen --print-completion SHELL`: what makes a shell complete commands and their options."""

import contextlib
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

import tyro

from hypergen.errors import InputError

FILES = {
    "bash": ("complete -F", "complete -o default -F"),
    "zsh": ("completion_array\n}", "completion_array || _files\n}"),
    "fish": ("--no-files ", ""),
}
"""Shell -> what is changed in tyro's script for files to be offered where nothing else is."""


def completion(commands: Mapping[str, str], shells: Sequence[str]) -> str:
    """The script for one shell.

    commands: name -> what it does. `InputError` unless one known shell is given.
    """
    if len(shells) != 1 or shells[0] not in FILES:
        given = " ".join(shells) or "nothing"
        raise InputError(f"--print-completion takes one of {', '.join(FILES)}, got {given}")
    parsers = [_parser(name, doc) for name, doc in commands.items()]
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        any_of_them: Any = Union[tuple(parsers)]  # noqa: UP007
        tyro.cli(any_of_them, prog="hypergen", args=["--tyro-print-completion", *shells])
    return script.getvalue().strip().replace(*FILES[shells[0]])


def _parser(name: str, doc: str) -> Any:
    parser = importlib.import_module(f"hypergen.cli.{name}").COMMAND.parser({})
    return Annotated[parser, tyro.conf.subcommand(name, description=doc)]
