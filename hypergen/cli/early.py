"""The options that decide what others mean, so that they are looked at before them."""

from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class Early:
    """Plugins, which register names; a preset or a run to resume, which replace defaults."""

    plugins: tuple[str, ...]
    preset: str | None
    out: str | None
    resume: bool

    @classmethod
    def of(cls, arguments: list[str]) -> "Early":
        """Those among a command's arguments."""
        last = {name: (_values(arguments, name) or [None])[-1] for name in ("preset", "out")}
        plugins = tuple(_values(arguments, "plugin"))
        return cls(plugins, last["preset"], last["out"], "--resume" in arguments)


def _values(arguments: list[str], name: str) -> list[str]:
    """The values of an option in their order, given as `--name value` or as `--name=value`."""
    values = []
    for text, after in zip_longest(arguments, arguments[1:]):
        if text.startswith(f"--{name}="):
            values.append(text.partition("=")[2])
        elif text == f"--{name}" and after is not None:
            values.append(after)
    return values
