"""Checks of what measures are made with: numbers as the command line gives them, or text."""

import math

import attacks
from hypergen.data.threats import pixel_threat
from hypergen.errors import InputError


def number(name: str, value: object, least: float, most: float = math.inf) -> float:
    """The value as a float in [least, most], finite; `InputError` for all else."""
    found = _float(value)
    if least <= found <= most and math.isfinite(found):
        return found
    raise InputError(f"`{name}` must be a number {_range(least, most)}, got {_told(value)}")


def whole(name: str, value: object, least: int, most: float = math.inf) -> int:
    """The value as an int in [least, most]; `InputError` for all else."""
    found = _float(value)
    if least <= found <= most and found.is_integer():
        return int(found)
    raise InputError(f"`{name}` must be a whole number {_range(least, most)}, got {_told(value)}")


def _float(value: object) -> float:
    """The value, or NaN for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _range(least: float, most: float) -> str:
    return f"from {least:g}" + ("" if most == math.inf else f" to {most:g}")


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def other_threat(threat: attacks.Threat, norm: str | None, epsilon: float | None) -> attacks.Threat:
    """The threat, with another norm and radius where these are given.

    `InputError` or `AttackError`: another norm without a radius, or one that is none.
    """
    made = attacks.Threat(norm or threat.norm, threat.epsilon if epsilon is None else epsilon)
    if epsilon is None and made.norm != threat.norm:
        raise InputError(f"`epsilon` is needed: the run has no radius in {made.norm}")
    return pixel_threat(made.norm, made.epsilon)
