"""What a sweep varies: texts such as learning-rate=1e-4:1e-2:log, as Optuna asks them."""

import types
from collections.abc import Callable
from typing import Any, get_args

import optuna

from attacks import AttackError
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.registry import nearest
from hypergen.settings import fields
from targets import TargetError

DEFAULT_VARY = ("beta=0:1",)
FORM = "NAME=LOW:HIGH[:log] or NAME=A,B,C"
Suggest = Callable[[optuna.Trial], Any]


def parse_vary(text: str, config: TrainConfig) -> tuple[str, Suggest]:
    """The short name of a setting, and what to ask Optuna; `InputError` for what cannot be."""
    given, _, values = text.partition("=")
    name = given.strip().replace("-", "_")
    kinds = {field.short: field.kind for field in fields(TrainConfig)}
    if name not in kinds:
        raise InputError(f'`vary`: unknown setting "{given}"{nearest(name, kinds)}')
    if not values:
        raise InputError(f"`vary`: expected {FORM}, got {text}")
    number = _number(kinds[name])
    as_text = name == "beta"  # a number in a field of text
    try:
        if ":" not in values or (number is None and not as_text):
            return name, _choices(name, values, number, config)
        return name, _range(name, values, number or float, as_text, config, text)
    except (InputError, AttackError, TargetError):
        raise
    except ValueError:
        raise InputError(f"`vary`: expected numbers, {FORM}, got {text}") from None


def _number(kind: Any) -> type | None:
    """int or float for a field of such numbers, None or not; None for another field."""
    choices = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((choice for choice in choices if choice in (int, float)), None)


def _choices(name: str, values: str, number: type | None, config: TrainConfig) -> Suggest:
    choices: list[Any] = [number(v) if number else v.strip() for v in values.split(",")]
    if name == "base":
        choices = [None if choice == "none" else choice for choice in choices]
    for choice in choices:
        config.replace(**{name: choice})  # raises when it cannot be
    return lambda trial: trial.suggest_categorical(name, choices)


def _range(
    name: str, values: str, number: type, as_text: bool, config: TrainConfig, text: str
) -> Suggest:
    low, high, *rest = values.split(":")
    low, high = number(low), number(high)
    log = rest == ["log"]
    if (rest and not log) or not low < high or (log and low <= 0):
        raise InputError(f"`vary`: expected NAME=LOW:HIGH[:log] with LOW below HIGH, got {text}")
    for end in (low, high):
        config.replace(**{name: end})
    if number is int:
        return lambda trial: trial.suggest_int(name, int(low), int(high), log=log)
    if as_text:
        return lambda trial: f"{trial.suggest_float(name, low, high, log=log):.6g}"
    return lambda trial: trial.suggest_float(name, low, high, log=log)
