"""The command that makes something again, as it is typed."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from hypergen.errors import option
from hypergen.experiments.sample_config import SampleConfig
from hypergen.knob import number_text
from hypergen.settings import Settings, fields
from hypergen.storage.impersonal import impersonal

OUT = "OUT"
"""The folder that a line names for what it makes."""


@dataclass(frozen=True)
class Making:
    """A command that trains.

    settings: what it is given; flags: settings of the command alone that are on; plugins: what it
    must load; recipe: what it does, in a few words; file: the weight file that is meant, in its
    `out`; empty where none is; sampling: how `hypergen sample` drew that file from the run, if it
    did.
    """

    command: Literal["baseline", "train"]
    settings: tuple[Settings, ...]
    flags: tuple[str, ...]
    plugins: tuple[str, ...]
    recipe: str
    file: str = ""
    sampling: SampleConfig | None = None


def making_line(making: Making) -> str:
    """The command that makes it in the folder `OUT`, with every option that is not the default.

    For what was drawn from a run afterwards a second command follows, after "&&".
    """
    words = ["hypergen", making.command]
    words += [word for settings in making.settings for word in _words(settings, type(settings)())]
    words += [option(flag) for flag in making.flags]
    plugins = [word for plugin in making.plugins for word in ("--plugin", plugin)]
    line = shlex.join([*map(impersonal, [*words, *plugins]), "--out", OUT])
    if making.sampling is None:
        return line
    words = ["hypergen", "sample", OUT, "--count", str(making.sampling.count)]
    words += _words(making.sampling, SampleConfig(count=making.sampling.count))
    out = ["--out", str(PurePosixPath(OUT, making.file).parent)]
    return f"{line} && {shlex.join([*map(impersonal, [*words, *plugins]), *out])}"


def _words(settings: Settings, usual: Settings) -> Iterator[str]:
    """The options of all fields that are not as in the usual settings."""
    for field in fields(type(settings)):
        name, value = option(field.short), field.of(settings)
        if value == field.of(usual):
            continue
        if isinstance(value, bool):
            yield name if value else name.replace("--", "--no-", 1)
        else:
            for each in value if field.takes_several else (value,):
                yield from (name, "none" if each is None else number_text(each))
