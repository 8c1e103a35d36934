"""How a measure is asked for on the command line, in Python and in config.json."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hypergen.errors import InputError


@dataclass(frozen=True)
class MeasureSpec:
    """A measure as it is asked for, such as robustness:norm=l2,epsilon=1.5 with its weight.

    name: all but the weight; kind: as the registry knows it; options: what it is made with;
    low, high: at least 0, the range of its weight beside those of the others; equal when fixed.
    """

    name: str
    kind: str
    options: Mapping[str, str | float]
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "MeasureSpec":
        """Reads NAME=WEIGHT or NAME:OPTION=VALUE,...=WEIGHT; a weight may be a range LOW:HIGH.

        `InputError` for all else.
        """
        name, equals, weight = text.rpartition("=")
        kind, colon, rest = name.partition(":")
        parts = [part.partition("=") for part in rest.split(",")] if colon else []
        if not (equals and kind) or not all(key and value for key, _, value in parts):
            raise InputError(
                "`measure` must be NAME=WEIGHT, such as int8=0.2, or with options "
                f"robustness:norm=l2,epsilon=1.5=0.3, where the last number is the weight; got "
                f"{text:.80}"
            )
        low, _, high = weight.partition(":")
        ends = [_number(low), _number(high or low)]
        if not all(isinstance(end, float) and 0 <= end < math.inf for end in ends):
            raise InputError(
                f"`measure` {name}: its weight must be a number from 0, or a range such as 0:1, "
                f"got {weight}"
            )
        low, high = map(float, ends)
        if low > high:
            raise InputError(f"`measure` {name}: {weight} is no range, for {low:g} > {high:g}")
        return cls(name, kind, {key: _number(value) for key, _, value in parts}, low, high)

    @property
    def is_ranged(self) -> bool:
        """Whether it is trained at a range of weights."""
        return self.low < self.high


def full_name(name: str, known: Iterable[str]) -> str:
    """The one of the `known` names that is meant: itself, or the only one of that kind.

    So "int8" is int8:bits=4 where there is no other int8. Any other name comes back as it is.
    """
    known = list(known)
    alike = [each for each in known if each.partition(":")[0] == name]
    return alike[0] if name not in known and len(alike) == 1 else name


def _number(text: str) -> float | str:
    """A number such as 1.5 or 8/255, or the text itself where it is none."""
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        return text
