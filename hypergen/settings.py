"""Checks dataclasses of settings by what their fields are declared to hold.

    @dataclass(frozen=True)
    class Options(Settings):
        steps: Annotated[int, Range(1)] = 1000

A field's type decides what it takes, whatever its annotation looks like as text. A dataclass may
have parts that are `Settings` themselves; each field has a *short name*, unique among all parts, by
which the command line, `of` and `replace` know it.
"""

import dataclasses
import math
import numbers
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union

from hypergen.data.wording import abridged
from hypergen.errors import InputError
from hypergen.knob import number_text
from hypergen.registry import Registry, nearest

HUGE = 10**9
"""A bound from here on is there for the machine's sake, not for the user's."""


@dataclass(frozen=True)
class Range:
    """Marks a field for numbers from `low` to `high`; above, below: without that end itself."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def admits(self, value: float) -> bool:
        """Whether a number lies in the range; NaN and infinities never do."""
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high and abs(value) != math.inf

    def wanted(self, value: float) -> str:
        """What a value must do that is not admitted, as in "lie in [0,1]" or "be above 0"."""
        if self.high < HUGE:
            left, right = "(" if self.above else "[", ")" if self.below else "]"
            return f"lie in {left}{self.low:g},{self.high:g}{right}"
        if value >= self.high:
            return f"be {'below' if self.below else 'at most'} {self.high:.3g}"
        if abs(value) == math.inf:
            return "be a finite number"
        return f"be {'above' if self.above else 'at least'} {self.low:g}"


@dataclass(frozen=True)
class Short:
    """Gives a field of a part its short name."""

    name: str


@dataclass(frozen=True)
class Registered:
    """Marks a field that names an entry of a registry; `also` are further words it takes.

    A registry that a higher floor fills is empty until that floor is imported; until then any name
    will do.
    """

    registry: Registry
    also: tuple[str, ...] = ()


COUNT = Range(1, HUGE)
SIZE = Range(0, HUGE)
"""Of radii, factors and penalties, say: what is multiplied by them must not overflow."""
SHARE = Range(0, 1)
RATE = Range(0, 1e30, above=True, below=True)
"""Of learning rates: Adam divides by them, which must not overflow."""
SEED = Range(0, 2**62, below=True)
"""What PyTorch takes, with room to count up from it."""
Norm = Literal["linf", "l2", "l1"]
NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "a list",
    Path: "a path",
}
"""What messages call a value of a type."""


@dataclass(frozen=True)
class Field:
    """One field of `Settings`.

    path: names from the whole down to it, as ("optimisation", "steps").
    kind: its type without `Annotated`; marks: what stood beside it there.
    """

    short: str
    path: tuple[str, ...]
    kind: Any
    marks: tuple[Any, ...]
    default: Any

    def mark(self, kind: type) -> Any:
        """The mark of that class, or None."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def takes_several(self) -> bool:
        """Whether it holds a list; a number that may be a range does not."""
        return typing.get_origin(kinds(self.kind)[0]) is tuple

    def of(self, settings: Any) -> Any:
        """Its value in `settings`."""
        for name in self.path:
            settings = getattr(settings, name)
        return settings


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass that refuses, in one line, what a field cannot hold."""

    def __post_init__(self) -> None:
        for name, kind, marks in _hints(type(self)):
            value = checked(_short(name, marks), getattr(self, name), kind, marks)
            object.__setattr__(self, name, value)
        self.require()

    def require(self) -> None:
        """Raises `InputError` where fields do not go together; nothing here."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """These settings by their short names, all others at their defaults."""
        _require_known(cls, values)
        own: dict[str, Any] = {}
        for name, kind, marks in _hints(cls):
            if _is_part(kind):
                shorts = {field.short for field in fields(kind)}
                own[name] = kind.of(**{n: v for n, v in values.items() if n in shorts})
            elif _short(name, marks) in values:
                own[name] = values[_short(name, marks)]
        return cls(**own)

    def replace(self, **values: Any) -> Self:
        """The same settings with some others, by short names; `InputError` for an unknown one."""
        _require_known(type(self), values)
        return self.of(**(self.flat() | values))

    def flat(self) -> dict[str, Any]:
        """Short name -> value, of all parts."""
        return {field.short: field.of(self) for field in fields(type(self))}

    def differences(self, other: "Settings") -> list[str]:
        """The settings in which two differ, as "name: mine, not theirs"."""
        return differences(self.flat(), other.flat())

    @classmethod
    def from_tree(cls, tree: Any, where: str) -> Self:
        """What `dataclasses.asdict` made of such settings and JSON gave back.

        What is None by default may be missing: older settings did not have it yet.
        `InputError` naming `where`: a setting that is missing, unknown, or no such thing.
        """
        if not isinstance(tree, dict):
            raise InputError(f"{where}: expected settings, got {type(tree).__name__}")
        names = [name for name, _, _ in _hints(cls)]
        off = {field.name for field in dataclasses.fields(cls) if field.default is None}
        for problem, keys in (
            ("lacks the setting", set(names) - set(tree) - off),
            ("has an unknown setting", set(tree) - set(names)),
        ):
            if keys:
                raise InputError(f"{where} {problem} {sorted(map(str, keys))[0]}")
        values: dict[str, Any] = {}
        for name, kind, _ in _hints(cls):
            value = tree.get(name)
            value = kind.from_tree(value, where) if _is_part(kind) else value
            values[name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
        try:
            return cls(**values)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None


def fields(cls: type[Settings]) -> list[Field]:
    """All fields, those of the parts in their place."""
    return list(_fields(cls, ()))


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The settings in `theirs` that are others in `mine`, as "name: mine, not theirs"."""
    apart = [(name, mine.get(name), value) for name, value in theirs.items()]
    return [f"{n}: {number_text(own)}, not {number_text(v)}" for n, own, v in apart if own != v]


def _fields(cls: type[Settings], path: tuple[str, ...]) -> Iterator[Field]:
    unset = dataclasses.MISSING
    defaults = {
        field.name: field.default if field.default_factory is unset else field.default_factory()
        for field in dataclasses.fields(cls)
    }
    for name, kind, marks in _hints(cls):
        if _is_part(kind):
            yield from _fields(kind, (*path, name))
        else:
            yield Field(_short(name, marks), (*path, name), kind, marks, defaults[name])


@cache
def _hints(cls: type[Settings]) -> tuple[tuple[str, Any, tuple[Any, ...]], ...]:
    """(name, type, marks) of each field."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        kind, marks = hints[field.name], ()
        if typing.get_origin(kind) is Annotated:
            kind, *marks = typing.get_args(kind)
        found.append((field.name, kind, tuple(marks)))
    return tuple(found)


def _short(name: str, marks: tuple[Any, ...]) -> str:
    return next((mark.name for mark in marks if isinstance(mark, Short)), name)


def _is_part(kind: Any) -> bool:
    """Whether a field's type is `Settings` of its own."""
    return isinstance(kind, type) and issubclass(kind, Settings)


def _require_known(cls: type[Settings], values: Mapping[str, Any]) -> None:
    known = [field.short for field in fields(cls)]
    for name in values:
        if name not in known:
            hint = nearest(name, known) or f"; known: {', '.join(known)}"
            raise InputError(f"unknown setting `{name}`{hint}")


def kinds(kind: Any) -> list[Any]:
    """What a type admits beside None: two for a number that may be a range, the range last."""
    is_union = typing.get_origin(kind) in (Union, UnionType)
    return [each for each in typing.get_args(kind) if each is not NoneType] if is_union else [kind]


def checked(short: str, value: Any, kind: Any, marks: tuple[Any, ...] = ()) -> Any:
    """The value as a field holds it; `InputError` unless it is of the kind and as marked."""
    if value is None and NoneType in typing.get_args(kind):
        return None
    several = isinstance(value, list | tuple)
    value = _of_kind(short, value, kinds(kind)[-1 if several else 0])
    ends = value if several else (value,)
    for mark in marks:
        if isinstance(mark, Range) and (out := [end for end in ends if not mark.admits(end)]):
            raise InputError(f"`{short}` must {mark.wanted(out[0])}, got {abridged(out[0])}")
        if isinstance(mark, Registered) and value not in mark.also and mark.registry.names():
            mark.registry.get(value)
    return value


def _of_kind(short: str, value: Any, kind: Any) -> Any:
    """The value as one of that type; `InputError` for another one. Truth values are no numbers."""
    if typing.get_origin(kind) is Literal:
        return _choice(short, value, typing.get_args(kind))
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_of_kind(short, each, typing.get_args(kind)[0]) for each in value)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is int and number and isinstance(value, numbers.Integral):
        return int(value)
    if kind is float and number:
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"`{short}` is larger than any floating-point number") from None
    plain = typing.get_origin(kind) or kind
    if plain not in (int, float, tuple) and isinstance(value, plain):
        # Python keeps a byte that is no UTF-8 as half a character, which no file can hold.
        if isinstance(value, str) and value.encode(errors="ignore").decode() != value:
            raise InputError(f"`{short}` must be a text in UTF-8, got {ascii(value):.60}")
        return value
    what = NAMES.get(plain, f"a {plain.__name__}")
    raise InputError(f"`{short}` must be {what}, got {abridged(value)}")


def _choice(short: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise InputError(f"`{short}` must be one of {', '.join(known)}, got {abridged(value)}")
    if value not in known:
        what = f'unknown {short.replace("_", " ")} "{value:.60}"{nearest(value, known)}'
        raise InputError(f"{what}; known: {', '.join(known)}")
    return value
