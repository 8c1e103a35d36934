"""Stops hopeless trials of a sweep at rungs, for several measures at once.

Optuna's pruners know one goal: `Trial.report` and `Trial.should_prune` refuse several. So what a
trial has reached stands in its user attributes, where the pruner reads it.
"""

import math
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from hypergen.evaluation.trade_off import on_front, spread
from hypergen.experiments.rungs import RUNGS, Reached, is_reached

PrunerName = Literal["none", "halving"]


class HypervolumeHalvingPruner(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al. 2020) by hypervolume contribution.

    A trial that has reached a rung is pruned if, among all that have reached it, both hold:

    - Another one is better even than the upper ends of its intervals, in one measure, and not worse
      in any: so it adds nothing to the hypervolume.
    - It is not among the best, one of `reduction_factor`: those chosen one after the other so that
      each adds most to the hypervolume (see `trade_off.spread`).

    So a trial on the front of a rung is never pruned there. Trials that have failed do not count.

    Args:
        num_classes: of the images, for the reference point of the hypervolume.
        reduction_factor: see above.
        n_min_trials: how many must have reached a rung before one is pruned there.
    """

    def __init__(self, num_classes: int, reduction_factor: int = 2, n_min_trials: int = 4):
        self.num_classes, self.reduction_factor = num_classes, reduction_factor
        self.n_min_trials = n_min_trials

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is hopeless at the last rung that it has reached."""
        own = reached(trial, len(study.directions))
        if not own:
            return False
        rung = max(own)
        means, upper = own[rung]
        others = [
            reached(other, len(study.directions)).get(rung)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state != TrialState.FAIL
        ]
        points = [means, *(other[0] for other in others if other is not None)]
        if len(points) < self.n_min_trials or on_front([upper, *points[1:]])[0]:
            return False
        best = spread(points, math.ceil(len(points) / self.reduction_factor), self.num_classes)
        return 0 not in best


def build_pruner(name: PrunerName, num_classes: int) -> optuna.pruners.BasePruner:
    """The pruner of that name."""
    if name == "none":
        return optuna.pruners.NopPruner()
    return HypervolumeHalvingPruner(num_classes)


def report(trial: optuna.Trial, rung: float, own: Reached) -> None:
    """Stores what a trial has at a rung."""
    trial.set_user_attr(_attribute(rung), own)


def reached(trial: FrozenTrial, measures: int) -> dict[float, Reached]:
    """What stands in the storage of a trial of so many measures, by rung."""
    found = {}
    for rung in RUNGS:
        match trial.user_attrs.get(_attribute(rung)):
            case [list(means), list(upper)] if is_reached((means, upper), measures):
                found[rung] = means, upper
    return found


def _attribute(rung: float) -> str:
    return f"rung-{rung:g}"
