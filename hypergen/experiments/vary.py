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
from hypergen.measure_spec import MeasureSpec
from hypergen.registry import nearest
from hypergen.settings import fields
from targets import TargetError

FORM = "NAME=LOW:HIGH[:log] or NAME=A,B,C"
WEIGHT = "measure."
"""What the name of a measure's weight begins with."""
Suggest = Callable[[optuna.Trial], Any]


def default_vary(config: TrainConfig) -> tuple[str, ...]:
    """beta or, of named measures, the weights of all but accuracy, whose own stays.

    `InputError`: there is nothing that they could be weighed against.
    """
    objective = config.objective
    if not objective.measures:
        return ("beta=0:1",)
    accuracy, *others = objective.specs
    if objective.has_many_preferences or accuracy.high == 0:
        raise InputError(
            "`vary` is needed: without it a sweep varies the weights of all measures but accuracy, "
            "whose own must then be above 0, and none a range"
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
    is_weight = text.startswith(WEIGHT)
    # The options of a measure have "=" too: behind the last one stands what its weight may be.
    given, _, values = text.rpartition("=") if is_weight else text.partition("=")
    name = given if is_weight else given.strip().replace("-", "_")
    kinds = {field.short: field.kind for field in fields(TrainConfig)}
    if config.objective.measures:
        kinds |= {f"{WEIGHT}{spec.name}": float for spec in config.objective.specs}
    elif is_weight:
        raise InputError(f"`vary` {text}: no `measure` is named; vary beta, or name measures")
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
    if (rest and not log) or not low < high or (log and low <= 0):
        raise InputError(f"`vary`: expected NAME=LOW:HIGH[:log] with LOW below HIGH, got {text}")
    for end in (low, high):
        with_chosen(config, {name: end})
    if number is int:
        return lambda trial: trial.suggest_int(name, int(low), int(high), log=log)
    if as_text:
        return lambda trial: f"{trial.suggest_float(name, low, high, log=log):.6g}"
    return lambda trial: trial.suggest_float(name, low, high, log=log)
