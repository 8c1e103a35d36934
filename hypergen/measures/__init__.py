"""What is measured on networks, and populations under attack."""

from collections.abc import Iterable
from typing import TypeVar

from hypergen.measures.accuracy import Accuracy
from hypergen.measures.base import Batch, Measure
from hypergen.measures.robustness import VALUE_ATTACKS, Robustness

__all__ = [
    "ACCURACY",
    "MEASURES",
    "ROBUSTNESS",
    "VALUE_ATTACKS",
    "Batch",
    "Measure",
    "named",
]

T = TypeVar("T")

ACCURACY, ROBUSTNESS = Accuracy(), Robustness()
MEASURES: tuple[Measure, ...] = (ACCURACY, ROBUSTNESS)
"""The measures of a run, in the order of the preference's weights."""


def named(values: Iterable[T]) -> dict[str, T]:
    """Gives one value a measure, in the order of `MEASURES`, each by its measure's name."""
    return {measure.name: value for measure, value in zip(MEASURES, values, strict=True)}
