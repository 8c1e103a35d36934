"""Optuna's samplers by name, for what has several goals."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

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


class TrialSampler(optuna.samplers.BaseSampler):
    """Chooses each trial by a sampler of its own, whose seed is told by the trial's number.

    So a sweep that was killed and goes on chooses what it would have chosen.

    Args:
        name: of the samplers.
        seed: of the first trial's.
    """

    def __init__(self, name: SamplerName, seed: int):
        self.name: SamplerName = name
        self.seed = seed
        self._number, self._sampler = -1, build_sampler(name, seed)

    def _of(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number != self._number:
            sampler = build_sampler(self.name, (self.seed + trial.number) % 2**32)
            self._number, self._sampler = trial.number, sampler
        return self._sampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self._of(trial).after_trial(study, trial, state, values)
