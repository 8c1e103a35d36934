"""What a sweep varies, how often, and where it keeps what it finds."""

from dataclasses import dataclass
from typing import Annotated

from hypergen.experiments.pruning import PrunerName
from hypergen.experiments.samplers import SamplerName
from hypergen.settings import COUNT, Range, Settings


@dataclass(frozen=True)
class SweepConfig(Settings):
    """What is varied, how often, and where Optuna keeps it."""

    trials: Annotated[int, COUNT] = 12
    """finished trials wanted in the storage, pruned ones and those of earlier calls included"""
    workers: Annotated[int, Range(1, 1000)] = 1
    """trials at work at once"""
    vary: tuple[str, ...] = ()
    """what to vary, repeatable: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C, for any setting,
    and the weight of a measure, such as measure.int8=0:1; by default beta=0:1 or, with measures,
    the weights of all but accuracy"""
    sampler: SamplerName = "tpe"
    """what chooses settings, of Optuna's"""
    pruner: PrunerName = "none"
    """what stops hopeless trials after a quarter or half of their steps, by a cheap measurement on
    validation images: none, or halving, which stops what others beat in all measures and what is
    in the worse half by its share of the hypervolume"""
    storage: str | None = None
    """where sweeps on several machines meet: any Optuna storage URL, such as postgresql://..., or
    grpc://HOST:PORT for Optuna's proxy; by default a journal file in the folder"""
