"""What is measured on networks, and populations under attack."""

import inspect
from typing import Any

import attacks
from hypergen.catalog import MEASURES, call_by_name
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec
from hypergen.measures.accuracy import Accuracy
from hypergen.measures.base import (
    Batch,
    FunctionMeasure,
    ImageMeasure,
    LogitMeasure,
    Measure,
    Stage,
    WeightMeasure,
    answered,
)
from hypergen.measures.blur import Blur
from hypergen.measures.calibration import calibration
from hypergen.measures.certified import Certified
from hypergen.measures.contrast import Contrast
from hypergen.measures.corruption import CorruptionMeasure
from hypergen.measures.int8 import Int8
from hypergen.measures.jpeg import Jpeg
from hypergen.measures.measuring import judged, measured, prepare_batch, raised, strict
from hypergen.measures.noise import Noise
from hypergen.measures.pruned import Pruned
from hypergen.measures.robustness import VALUE_ATTACKS, AttackedMeasure, Robustness
from hypergen.measures.shift import Shift
from hypergen.measures.square import Square
from hypergen.measures.transfer import Transfer
from hypergen.measures.union import Union
from hypergen.measures.weight_noise import WeightNoise
from hypergen.measures.worst_class import worst_class
from hypergen.registry import nearest

__all__ = [
    "VALUE_ATTACKS",
    "Accuracy",
    "AttackedMeasure",
    "Batch",
    "Blur",
    "Certified",
    "Contrast",
    "CorruptionMeasure",
    "FunctionMeasure",
    "ImageMeasure",
    "Int8",
    "Jpeg",
    "LogitMeasure",
    "Measure",
    "Noise",
    "Pruned",
    "Robustness",
    "Shift",
    "Square",
    "Stage",
    "Transfer",
    "Union",
    "WeightMeasure",
    "WeightNoise",
    "build_measure",
    "build_measures",
    "calibration",
    "answered",
    "judged",
    "measured",
    "prepare_batch",
    "raised",
    "strict",
    "worst_class",
]


RESERVED = {"after", "checks", "count", "disagreement", "error_overlap", "estimated", "file"}
RESERVED |= {"interval", "kind", "norms", "outside_dictionary", "pgd", "pgd_on_sra_images"}
RESERVED |= {"reasons", "run", "split", "sra", "test", "verdict", "z"}
"""What rows and summaries of results call something else than a measure."""


def build_measures(config: TrainConfig) -> tuple[Measure, ...]:
    """The measures of a run, in the order of the preference's weights; accuracy is the first."""
    measures = tuple(build_measure(spec, config.threat) for spec in config.objective.specs)
    if config.objective.kind == "direct":
        for spec, measure in zip(config.objective.specs, measures, strict=True):
            if spec.high and not isinstance(measure, LogitMeasure):
                raise InputError(
                    f"the measure {spec.name} has no loss to descend: use `objective` value or "
                    "hybrid"
                )
    attacked = any(spec.high and _sees_threat(spec) for spec in config.objective.specs)
    if config.knob.name == "radius" and not attacked:
        raise InputError(
            "nothing that this run is trained for depends on `epsilon`: its range leads nowhere"
        )
    budget = config.value_network.measure_budget
    if budget == "active" and not any(measure.is_dear for measure in measures):
        raise InputError(
            "`measure_budget` active spares dear measures, such as black boxes, and the run has "
            "none: leave it out"
        )
    return measures


def build_measure(spec: MeasureSpec, threat: attacks.Threat) -> Measure:
    """The measure that a specification names; `threat` is what it stands for unless it says else.

    Raises:
        InputError: an unknown name, an option that the measure does not take, or a wrong value.
    """
    if spec.name in RESERVED:
        raise InputError(f"results call something else {spec.name}: give the measure another name")
    maker = MEASURES.get(spec.kind)
    measure = _made(maker, spec, threat)
    measure.name = spec.name
    return measure


def _sees_threat(spec: MeasureSpec) -> bool:
    maker = MEASURES.get(spec.kind)
    return isinstance(maker, type) and "threat" in inspect.signature(maker).parameters


def _made(maker: Any, spec: MeasureSpec, threat: attacks.Threat) -> Measure:
    try:
        _require_options(maker, spec)
        if not isinstance(maker, type):
            return FunctionMeasure(maker, spec.options)
        given: dict[str, Any] = {**spec.options, "threat": threat}
        made = call_by_name(maker, **given)
    except (TypeError, ValueError) as error:  # a user's own: whatever it makes of wrong values
        raise InputError(f"`measure` {spec.name}: {error}") from error
    if not isinstance(made, Measure):
        raise InputError(f"the measure {spec.kind} must be a hypergen.Measure or a function")
    return made


def _require_options(maker: Any, spec: MeasureSpec) -> None:
    """`InputError` for an option that the measure does not take."""
    parameters = list(inspect.signature(maker).parameters.values())
    if not isinstance(maker, type):
        parameters = parameters[3:]  # a function is given population, images and labels
    several = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    known = [each.name for each in parameters if each.kind not in several and each.name != "threat"]
    anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    for name in spec.options:
        if name == "threat" or not (anything or name in known):
            hint = f"{nearest(name, known)}; known: {', '.join(known) or 'none'}"
            raise InputError(f"{spec.kind} has no option {name}{hint}")
