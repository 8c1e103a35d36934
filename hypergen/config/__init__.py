"""What decides a run: the settings of its parts, as frozen dataclasses."""

from hypergen.config.parts import (
    Activation,
    AdversaryConfig,
    DataConfig,
    Epsilon,
    GeneratorConfig,
    ImageSize,
    LipschitzBound,
    ObjectiveConfig,
    OptimisationConfig,
    Target,
    ValueNetworkConfig,
)
from hypergen.config.train import TrainConfig

__all__ = [
    "Activation",
    "AdversaryConfig",
    "DataConfig",
    "Epsilon",
    "GeneratorConfig",
    "ImageSize",
    "LipschitzBound",
    "ObjectiveConfig",
    "OptimisationConfig",
    "Target",
    "TrainConfig",
    "ValueNetworkConfig",
]
