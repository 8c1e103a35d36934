"""The value network V: estimates the measures of weight vectors, differentiably.

Every kind turns a population into *features*, differentiably in the weights, and features into one
estimate in [0,1] a measure. Features of measured networks are what the replay buffer keeps.
"""

from hypergen.models.value_network.base import ValueNetwork
from hypergen.models.value_network.ensemble import EnsembleValueNetwork, build_value_network
from hypergen.models.value_network.of_behaviour import SetValueNetwork
from hypergen.models.value_network.of_weights import (
    FlatValueNetwork,
    ProbeValueNetwork,
    StatisticsValueNetwork,
)

__all__ = [
    "EnsembleValueNetwork",
    "FlatValueNetwork",
    "ProbeValueNetwork",
    "SetValueNetwork",
    "StatisticsValueNetwork",
    "ValueNetwork",
    "build_value_network",
]
