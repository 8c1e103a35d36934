"""Evaluations that take next to no time."""

from dataclasses import replace

from hypergen.experiments.evaluate_config import EvaluateConfig

QUICK = EvaluateConfig(steps=2, restarts=1, images=20, epsilon=0.02)


def asking(*measures: str) -> EvaluateConfig:
    """The same, of these measures too."""
    return replace(QUICK, measures=measures)
