"""What a generator that was trained for a range is asked: beta, or the radius of the threat."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from hypergen.errors import InputError

Name = Literal["beta", "radius"]
MAX_VALUES = 1000
"""In one range such as 0:1:11."""
KNOBS: dict[Name, str] = {
    "beta": "beta (weight of robustness, from 0 to 1)",
    "radius": "radius (epsilon that networks were asked to withstand)",
}
"""What each of them is called at an axis."""


@dataclass(frozen=True)
class Knob:
    """What is asked, from `low` to `high`; equal where it is fixed.

    whole: what the generator is given as 1, for it takes numbers in [0,1].
    """

    name: Name
    low: float
    high: float
    whole: float = 1.0

    @property
    def is_ranged(self) -> bool:
        """Whether it can be turned."""
        return self.low < self.high

    @property
    def given_range(self) -> tuple[float, float]:
        """(lowest, highest) that the generator is given."""
        return self.low / self.whole, self.high / self.whole

    def given(self, value: float) -> float:
        """What the generator is given for a value; `InputError` beyond what it was trained for."""
        if not self.low <= value <= self.high:
            raise InputError(
                f"this generator was trained for `{self.name}` in [{self.low:g}, {self.high:g}], "
                f"not {value:g}"
            )
        return value / self.whole

    def value(self, given: float) -> float:
        """The value that the generator is given so; never beyond the range by rounding."""
        return min(max(given * self.whole, self.low), self.high)


def knob_of(row: Mapping[str, Any]) -> Name | None:
    """What was asked of a network, of whose row or weight file this is; None for nothing."""
    return next((name for name in KNOBS if name in row), None)


def knob_in(rows: Sequence[Mapping[str, Any]]) -> Name:
    """What was asked of the networks of these rows, of all of them alike."""
    name = knob_of(rows[0])
    assert name is not None
    return name


def asked_text(row: Mapping[str, Any]) -> str:
    """ "beta 0.25", of the row of a network that was asked so; empty where nothing was."""
    name = knob_of(row)
    return "" if name is None else f"{name} {row[name]:.4g}"


def parse_number(text: str) -> float:
    """Gives "0.1" as 0.1 and "8/255" as a fraction; ValueError for anything else."""
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"expected a number or a fraction such as 8/255, got {text:.60}") from None


def parse_radius(text: str) -> float | tuple[float, ...]:
    """Gives "8/255" as a number and "0:0.3" as a tuple of two; ValueError for anything else."""
    numbers = tuple(map(parse_number, text.split(":")))
    return numbers[0] if len(numbers) == 1 else numbers


def number_text(value: Any) -> str:
    """What is read as that value: "1", not "1.0", and "0:0.3" of a range."""
    if value and isinstance(value, tuple) and all(isinstance(each, float) for each in value):
        return ":".join(map(number_text, value))
    exact = isinstance(value, float) and float(f"{value:g}") == value
    return f"{value:g}" if exact else str(value)


def parse_beta(text: str) -> tuple[float, float]:
    """Gives "0.5" as (0.5, 0.5) and "0:1" as (0, 1); `InputError` outside [0,1]."""
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    in_range = all(0 <= value <= 1 for value in values)
    if len(values) not in (1, 2) or not in_range or values != sorted(values):
        raise InputError(
            f"`beta` must be a number in [0,1] or a range such as 0:1 (the weight of accuracy is "
            f"1 - beta), got {text:.60}"
        )
    return values[0], values[-1]


def beta_text(beta: Any) -> str:
    """A number or (lowest, highest), as a Python user may write beta, as `parse_beta` reads it.

    What is no number becomes something that it refuses.
    """
    ends = beta if isinstance(beta, tuple | list) else [beta]
    return ":".join(map(_number_text, ends))


def _number_text(value: Any) -> str:
    try:
        return str(float(value))
    except (TypeError, ValueError, OverflowError):
        return f"something of type {type(value).__name__}"


def parse_values(text: str, name: Name) -> list[float]:
    """Gives "0.5" as [0.5] and "0:1:3" as [0, 0.5, 1], three at equal distances.

    `InputError` below 0, for a beta above 1, and for more than `MAX_VALUES`.
    """
    most = 1.0 if name == "beta" else math.inf
    try:
        *parts, last = text.split(":")
        if not parts:
            low = high = parse_number(last)
            count = 1
        else:
            (low, high), count = map(parse_number, parts), int(last)
        ordered = low < high if count > 1 else not parts
        if 0 <= low <= high <= most and high < math.inf and ordered and 1 <= count <= MAX_VALUES:
            steps = max(1, count - 1)
            found = [low + (high - low) * step / steps for step in range(count)]
            return [*found[:-1], high]
    except ValueError:
        pass
    where = "in [0,1]" if name == "beta" else "from 0"
    raise InputError(
        f"`{name}` must be a number {where} or, for several, LOW:HIGH:COUNT such as 0:1:11, got "
        f"{text:.60}"
    )
