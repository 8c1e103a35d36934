"""Checks of an attack's options, which users may give as any type of number.

What is accepted becomes Python's own int or float, so that it can be hashed, compared and written
as JSON. The functions named `require_...` take an attack, or whatever has the options as fields,
and the names of the fields.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from attacks.errors import AttackError


def require_norm(attack: str, norm: str, known: Sequence[str]) -> None:
    """Raises AttackError unless the norm is one that the attack of that name knows."""
    if norm not in known:
        norms = f"norms {' and '.join(known)}" if len(known) > 1 else f"norm {known[0]}"
        raise AttackError(f"{attack} knows the {norms} only, got {norm!r}")


def require_counts(owner: Any, *names: str, least: int = 1) -> None:
    """Raises AttackError unless the fields are whole numbers of at least `least`."""
    for name in names:
        object.__setattr__(owner, name, count(name, getattr(owner, name), least))


def require_positive(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields are finite numbers above 0."""
    for name in names:
        object.__setattr__(owner, name, positive(name, getattr(owner, name)))


def require_nonnegative(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields are finite numbers of at least 0."""
    for name in names:
        expected = f"a finite {name} >= 0"
        value = _number(getattr(owner, name), lambda number: number >= 0, expected)
        object.__setattr__(owner, name, value)


def require_share(owner: Any, *names: str) -> None:
    """Raises AttackError unless the fields lie in (0, 1]."""
    for name in names:
        expected = f"{name} in (0, 1]"
        value = _number(getattr(owner, name), lambda number: 0 < number <= 1, expected)
        object.__setattr__(owner, name, value)


def count(name: str, value: object, least: int = 1) -> int:
    """The value as an int; AttackError unless it is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise AttackError(
            f"expected {name} to be a whole number of at least {least}, got {value!r}"
        )
    return int(value)


def positive(name: str, value: object) -> float:
    """The value as a float; AttackError unless it is a finite number above 0."""
    return _number(value, lambda number: number > 0, f"{name} to be a finite number above 0")


def _number(value: object, accepts: Callable[[float], bool], expected: str) -> float:
    # True and False are ints to Python.
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and accepts(number):
            return number
    raise AttackError(f"expected {expected}, got {value!r}")
