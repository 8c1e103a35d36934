"""Optuna's samplers by name, for what has several goals."""

import warnings
from collections.abc import Callable
from typing import Literal

import optuna

SamplerName = Literal["tpe", "nsga2", "nsga3", "gp", "random"]
MAKERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def build_sampler(name: SamplerName, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler; some are experimental, which is said nowhere else than by Optuna."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return MAKERS[name](seed)
