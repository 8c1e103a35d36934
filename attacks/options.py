"""Checks of an attack's options, which users may give as any type of number.

What is accepted becomes Python's own int or float, so that it can be hashed, compared and written
as JSON. The functions named `require_...` take an attack, or whatever has the options as fields,
and the names of the fields.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from attacks.errors import AttackError, shown

MOST = 10**9
"""What any count and number may be at most: float32 and the patience of a user end before."""


def require_norm(attack: str, norm: str, known: Sequence[str]) -> None:
    """Raises AttackError unless the norm is one that the attack of that name knows."""
    if norm not in known:
        norms = f"norms {' and '.join(known)}" if len(known) > 1 else f"norm {known[0]}"
        raise AttackError(f"{attack} knows the {norms} only, got {shown(norm)}")


def require_counts(owner: Any, *names: str, least: int = 1) -> None:
    """Raises AttackError unless the fields are whole numbers of at least `least`."""
    for name in names:
        object.__setattr__(owner, name, count(name, getattr(owner, name), least))


def require_positive(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields are finite numbers above 0, of at most `MOST`."""
    for name in names:
        object.__setattr__(owner, name, positive(name, getattr(owner, name)))


def require_nonnegative(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields are finite numbers from 0 to `MOST`."""
    for name in names:
        expected = f"a finite {name} >= 0"
        value = _number(name, getattr(owner, name), lambda number: number >= 0, expected)
        object.__setattr__(owner, name, value)


def require_share(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields lie in (0, 1]."""
    for name in names:
        expected = f"{name} in (0, 1]"
        value = _number(name, getattr(owner, name), lambda number: 0 < number <= 1, expected)
        object.__setattr__(owner, name, value)


def require_flags(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields are true or false."""
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, bool | np.bool_):
            raise AttackError(f"expected {name} to be True or False, got {shown(value)}")
        object.__setattr__(owner, name, bool(value))


def count(name: str, value: object, least: int = 1) -> int:
    """The value as an int; AttackError unless it is a whole number from `least` to `MOST`."""
    bound = f"at least {least}"
    if isinstance(value, Integral) and not isinstance(value, bool):
        whole = int(value)
        if least <= whole <= MOST:
            return whole
        if whole > MOST:
            bound = f"at most {MOST:g}"
    raise AttackError(f"expected {name} to be a whole number of {bound}, got {shown(value)}")


def positive(name: str, value: object) -> float:
    """The value as a float; AttackError unless it is above 0 and at most `MOST`."""
    expected = f"{name} to be a finite number above 0"
    return _number(name, value, lambda number: number > 0, expected)


def _number(name: str, value: Any, accepts: Callable[[float], bool], expected: str) -> float:
    # True and False are ints to Python.
    if isinstance(value, Real) and not isinstance(value, bool):
        number: Any = value
        if math.inf != number > MOST:
            expected = f"{name} to be at most {MOST:g}"
        elif -MOST <= number <= MOST and accepts(float(number)):  # which NaN is not
            return float(number)
    raise AttackError(f"expected {expected}, got {shown(value)}")
