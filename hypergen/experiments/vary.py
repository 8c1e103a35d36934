"""What a sweep varies: texts such as learning-rate=1e-4:1e-2:log, as Optuna asks them.

A name is that of a setting, or measure.NAME for the weight of one of the run's measures.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import optuna

from attacks import AttackError
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec, full_name
from hypergen.registry import nearest
from hypergen.settings import fields
from targets import TargetError

FORM = "NAME=LOW:HIGH[:log] or NAME=A,B,C"
WEIGHT = "measure."
"""What the name of a measure's weight begins with."""
Suggest = Callable[[optuna.Trial], Any]


def default_vary(config: TrainConfig) -> tuple[str, ...]:
    """beta or, of named measures, the weights of all but accuracy, whose own stays.

    `InputError`: one run has them all already, or accuracy has no weight to set them against.
    """
    objective = config.objective
    if not objective.measures:
        return ("beta=0:1",)
    accuracy, *others = objective.specs
    if objective.has_many_preferences:
        raise InputError(
            "`vary` is needed: with ranges of weights one generator has all preferences, and there "
            "are no weights left to vary; vary another setting, or give each measure one weight"
        )
    if accuracy.high == 0:
        raise InputError(
            "`vary` is needed: a sweep varies the weights of all measures beside that of accuracy, "
            "which is 0; add `measure` accuracy=1, or vary another setting"
        )
    return tuple(f"{WEIGHT}{spec.name}=0:1" for spec in others)


def parse_all(texts: Sequence[str], config: TrainConfig) -> dict[str, Suggest]:
    """Name -> what to ask Optuna, of all that is varied. `InputError` for what cannot be."""
    found: dict[str, Suggest] = {}
    for text in texts:
        name, suggest = parse_vary(text, config)
        if name in found:
            raise InputError(f"`vary`: {name} is given twice")
        found[name] = suggest
    return found


def parse_vary(text: str, config: TrainConfig) -> tuple[str, Suggest]:
    """The name of what is varied, and what to ask Optuna; `InputError` for what cannot be.

    The name is the short one of a setting, or measure.NAME.
    """
    name, kind, values = _of_measure(text, config) if text.startswith(WEIGHT) else _of_setting(text)
    if not values:
        raise InputError(f"`vary`: expected {FORM}, got {text}")
    number = _number(kind)
    as_text = name == "beta"  # a number in a field of text
    try:
        if ":" not in values or (number is None and not as_text):
            return name, _choices(name, values, number, config)
        return name, _range(name, values, number or float, as_text, config, text)
    except (InputError, AttackError, TargetError):
        raise
    except ValueError:
        raise InputError(f"`vary`: expected numbers, {FORM}, got {text}") from None


def _of_setting(text: str) -> tuple[str, Any, str]:
    """The short name of the setting, its type, and what it may be."""
    given, _, values = text.partition("=")
    name = given.strip().replace("-", "_")
    kinds = {field.short: field.kind for field in fields(TrainConfig)}
    if name not in kinds:
        raise InputError(f'`vary`: unknown setting "{given}"{nearest(name, kinds)}')
    return name, kinds[name], values


def _of_measure(text: str, config: TrainConfig) -> tuple[str, Any, str]:
    """measure.NAME, its full name though it may be named by its kind alone; type; values."""
    if not config.objective.measures:
        raise InputError(f"`vary` {text}: no `measure` is named; vary beta, or name measures")
    known = [spec.name for spec in config.objective.specs]
    whole = text.removeprefix(WEIGHT)
    if full_name(whole, known) in known:
        raise InputError(f"`vary`: expected {FORM}, got {text}")
    # The options of a measure have "=" too: behind the last one stands what its weight may be.
    given, _, values = whole.rpartition("=")
    name = full_name(given, known)
    if name not in known:
        hint = nearest(name, known)
        raise InputError(f"`vary` {text}: no measure {name}{hint}; it has {', '.join(known)}")
    return f"{WEIGHT}{name}", float, values


def with_chosen(config: TrainConfig, chosen: Mapping[str, Any]) -> TrainConfig:
    """The configuration with what was chosen, by the names of `parse_vary`.

    `InputError`: values that cannot be.
    """
    settings = {name: value for name, value in chosen.items() if not name.startswith(WEIGHT)}
    weights = {
        name.removeprefix(WEIGHT): value for name, value in chosen.items() if name not in settings
    }
    if weights:
        texts = {MeasureSpec.parse(text).name: text for text in config.objective.measures}
        texts |= {name: f"{name}={weight:.6g}" for name, weight in weights.items()}
        settings["measure"] = tuple(texts.values())
    return config.replace(**settings)


def _number(kind: Any) -> type | None:
    """int or float for a field of such numbers, None or not; None for another field."""
    choices = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((choice for choice in choices if choice in (int, float)), None)


def _choices(name: str, values: str, number: type | None, config: TrainConfig) -> Suggest:
    choices: list[Any] = [number(v) if number else v.strip() for v in values.split(",")]
    if name == "base":
        choices = [None if choice == "none" else choice for choice in choices]
    for choice in choices:
        with_chosen(config, {name: choice})  # raises when it cannot be
    return lambda trial: trial.suggest_categorical(name, choices)


def _range(
    name: str, values: str, number: type, as_text: bool, config: TrainConfig, text: str
) -> Suggest:
    low, high, *rest = values.split(":")
    low, high = number(low), number(high)
    log = rest == ["log"]
    if (rest and not log) or not low < high:
        raise InputError(f"`vary`: expected NAME=LOW:HIGH[:log] with LOW below HIGH, got {text}")
    if log and low <= 0:
        raise InputError(f"`vary`: on a log scale LOW must be above 0, got {text}")
    for end in (low, high):
        with_chosen(config, {name: end})
    if number is int:
        return lambda trial: trial.suggest_int(name, int(low), int(high), log=log)
    if as_text:
        return lambda trial: f"{trial.suggest_float(name, low, high, log=log):.6g}"
    return lambda trial: trial.suggest_float(name, low, high, log=log)
