"""Whether training is told the truth of its networks, measure by measure.

Two things stand between a measure and the generator: the cheap measurement that V is fitted to, and
V itself. Now and then both are held against a longer measurement of the same samples on validation
images. Where the cheap measurement flatters, its budget is raised; where V does, the generator may
have learned to please V.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

import attacks
from hypergen.data import Split
from hypergen.measures import (
    AttackedMeasure,
    Measure,
    Stage,
    Transfer,
    answered,
    judged,
    measured,
    prepare_batch,
    raised,
    strict,
)
from hypergen.models.value_network import ValueNetwork
from hypergen.runtime.precision import full_precision
from hypergen.training.adversary import MAX_DOUBLINGS, Adversary
from targets import Population

CHECKED_NETWORKS, CHECKED_IMAGES = 2, 40
LONG_IMAGES = 400
"""Images of a longer measurement that can be longer by nothing else."""


class GapCheck:
    """Holds what training is told against longer measurements, and raises budgets that flatter.

    Args:
        adversary: of the run, whose attack steps are raised.
        measures: of the run, one list for all who measure: raised ones are replaced in it.

    Attributes:
        doublings: how often a measure's own budget was doubled, by its name.
    """

    def __init__(self, adversary: Adversary, measures: list[Measure]):
        self.adversary, self.measures = adversary, measures
        self.doublings: dict[str, int] = {}

    @full_precision()
    @torch.no_grad()
    def __call__(
        self, population: Population, value: ValueNetwork, split: Split, progress: float, seed: int
    ) -> dict[str, float]:
        """What was found of each measure, means over the networks.

        `check/NAME` is the longer measurement. Its `gap` is what the measurement with the budget of
        training says beyond it, its `overestimate` what V says beyond it, and its `budget` by what
        factor its own was raised before. Radii are what has been reached so far of those evaluated
        at.
        """
        images, labels = split.first(CHECKED_IMAGES)
        stage = Stage(lambda threat: self.adversary.value_attack(threat, progress), seed)
        prepared = prepare_batch(self.measures, population, images, labels, stage)
        batch = answered(self.measures, population, prepared)
        cheap = measured(self.measures, population, batch).mean(0).tolist()
        estimated = value(value.features(population, batch)).mean(0).tolist()
        found: dict[str, float] = {}
        for measure, told, estimate in zip(self.measures, cheap, estimated, strict=True):
            name = f"check/{measure.name}"
            figure = float(self.at_length(measure, population, split, progress, seed).mean())
            found[name] = figure
            found[f"{name}/gap"] = told - figure
            found[f"{name}/overestimate"] = estimate - figure
            if raised(measure, 1) is not measure:
                found[f"{name}/budget"] = 2.0 ** self.doublings.get(measure.name, 0)
        threat = self.adversary.threat(self.adversary.config.threat, progress)
        attack_steps = self.adversary.attack_steps
        return found | {"check/attack_steps": attack_steps, "check/epsilon": threat.epsilon}

    def at_length(
        self, measure: Measure, population: Population, split: Split, progress: float, seed: int
    ) -> Tensor:
        """[P], a measure with a larger budget on the same images, or on more if it has no budget.

        What attacks is `attacks.quick`, four attacks of which one needs no gradient: whole standard
        attacks took a third of a short run's time.
        """

        def quick(threat: attacks.Threat) -> attacks.Attack:
            return attacks.quick(self.adversary.threat(threat, progress))

        has_budget = spends_attack_steps(measure) or strict(measure) is not measure
        images = split.first(CHECKED_IMAGES if has_budget else LONG_IMAGES)
        return judged([measure], population, *images, Stage(quick, seed))[:, 0]

    def raise_budgets(self, found: Mapping[str, float]) -> None:
        """Doubles what measures that flatter may spend: the attacks' steps, or what they have."""
        limit = self.adversary.config.adversary.max_robustness_gap
        flattering = [each for each in self.measures if found[f"check/{each.name}/gap"] > limit]
        if any(map(spends_attack_steps, flattering)):
            self.adversary.raise_attack_steps()
        for measure in flattering:
            times, larger = self.doublings.get(measure.name, 0), raised(measure, 1)
            if larger is not measure and times < MAX_DOUBLINGS:
                self.doublings[measure.name] = times + 1
                self.measures[self.measures.index(measure)] = larger

    def restore(self, doublings: Mapping[str, int]) -> None:
        """Raises the budgets of fresh measures as often as they were before."""
        self.doublings = dict(doublings)
        self.measures[:] = [raised(each, doublings.get(each.name, 0)) for each in self.measures]


def spends_attack_steps(measure: Measure) -> bool:
    """Whether the run's attacks make its images: then their steps are its budget."""
    if isinstance(measure, AttackedMeasure):
        return not measure.only_broken
    return isinstance(measure, Transfer)
