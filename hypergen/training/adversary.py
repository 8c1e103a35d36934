"""What attacks the images of a training step."""

import copy
from dataclasses import replace
from typing import Self

from torch import Tensor

import attacks
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo
from hypergen.measures import VALUE_ATTACKS, Stage
from hypergen.runtime.precision import Precision
from hypergen.training.recipes import usual_factor

MAX_DOUBLINGS = 2
"""How often what a measurement in training may spend is doubled at most."""


class Adversary:
    """Makes the attacks of a run's steps: their radius grows, and so may their number of steps.

    Args:
        precision: what attacks on the networks that are trained compute in.

    Attributes:
        attack_steps: gradient steps of each attack now.
        share: of every radius, that networks are asked to withstand.
    """

    def __init__(self, config: TrainConfig, info: DatasetInfo, precision: Precision = "float32"):
        self.config = config
        self.precision: Precision = precision
        self.attack_steps, self.share = config.attack_steps, 1.0
        given = config.adversary.epsilon_factor
        self.factor = usual_factor(info) if given is None else given

    def at(self, share: float) -> Self:
        """The same as it is now, against that share of every radius."""
        other = copy.copy(self)
        other.share = share
        return other

    def asked(self, preference: Tensor) -> Self:
        """The same for networks of these preferences [P] or [P,M]: all of one radius, if of any."""
        return self.at(float(preference[0])) if self.config.knob.name == "radius" else self

    def threat(self, threat: attacks.Threat, progress: float) -> attacks.Threat:
        """What a threat is after a share `progress` of its warm-up."""
        start = self.config.epsilon_start
        share = self.share * (start + (1 - start) * progress)
        return replace(threat, epsilon=threat.epsilon * share)

    def enlarged(self, threat: attacks.Threat) -> attacks.Threat:
        """The threat trained against, of the one that is judged at."""
        return replace(threat, epsilon=threat.epsilon * self.factor)

    def value_stage(self, progress: float, seed: int) -> Stage:
        """What prepares the images that V sees and is fitted to.

        With `direct` V watches alone, and does so at the whole radius: its figures compare.
        """
        own = self.at(1.0) if self.config.objective.kind == "direct" else self
        return Stage(lambda threat: own.value_attack(own.enlarged(threat), progress), seed)

    def training_stage(self, progress: float, seed: int) -> Stage:
        """What prepares the images that the generator learns from."""
        if self.config.objective.kind != "direct":
            return self.value_stage(progress, seed)
        return Stage(lambda threat: self.training_attack(threat, progress), seed, self.precision)

    def value_attack(self, threat: attacks.Threat, progress: float) -> attacks.Attack:
        """What V's attack on a threat is, after a share of its warm-up."""
        make = VALUE_ATTACKS[self.config.adversary.value_attack]
        return make(self.threat(threat, progress), self.attack_steps)

    def training_attack(self, threat: attacks.Threat, progress: float) -> attacks.Attack:
        """What attacks the images whose cross-entropy is descended, given the judged threat."""
        threat = self.threat(self.enlarged(threat), progress)
        if self.attack_steps == 1 and threat.norm != "l1":
            return attacks.RandomFGSM(threat)
        return VALUE_ATTACKS["pgd"](threat, self.attack_steps)

    def raise_attack_steps(self) -> None:
        """Doubles the attacks' steps, up to a limit, where they were found to flatter."""
        doubled = 2 * self.attack_steps
        if doubled <= 2**MAX_DOUBLINGS * self.config.attack_steps:
            self.attack_steps = doubled
