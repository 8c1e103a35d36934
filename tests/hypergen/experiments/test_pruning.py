"""Which trials of a sweep are stopped at rungs: cases counted by hand, and what always holds."""

import random

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypergen.evaluation.trade_off import on_front
from hypergen.experiments.pruning import (
    HypervolumeHalvingPruner,
    build_pruner,
    reached,
    report,
)
from hypergen.experiments.rungs import RUNGS

FIRST, SECOND = RUNGS
GOOD = [(0.875, 0.25), (0.75, 0.5), (0.625, 0.75)]
"""A front; the rest of the trials lie below it."""


def a_study(measures: int = 2, storage: str | None = None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MAXIMIZE] * measures
    return optuna.create_study(directions=directions, storage=storage)


def at(study: optuna.Study, point, error: float = 0.0, rung: float = FIRST) -> optuna.Trial:
    """A new trial that has reached a rung."""
    trial = study.ask()
    report(trial, rung, ([*point], [min(1.0, mean + error) for mean in point]))
    return trial


def is_pruned(study: optuna.Study, trial: optuna.Trial, **options) -> bool:
    pruner = HypervolumeHalvingPruner(10, **options)
    return pruner.prune(study, frozen(study, trial))


def frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials()[trial.number]


@pytest.mark.parametrize(
    ("point", "error", "expected"),
    [
        ((0.6875, 0.4375), 0.0, True),  # (0.75, 0.5) is better in both
        ((0.6875, 0.4375), 0.0625, False),  # at best as good
        ((0.6875, 0.4375), 0.06, True),
        ((0.6875, 0.4375), 0.2, False),
        ((0.75, 0.4), 0.0, True),
        ((0.75, 0.5), 0.0, False),  # none is better in anything
        ((0.95, 0.0), 0.0, False),  # the most accurate, although it adds no volume
        ((0.05, 0.0), 0.0, True),  # worse than guessing
        ((0.8, 0.4), 0.0, False),  # on the front
    ],
)
def test_what_another_trial_beats_beyond_its_error_is_pruned(point, error, expected):
    study = a_study()
    for each in GOOD:
        at(study, each)
    assert is_pruned(study, at(study, point, error)) is expected


def test_what_is_among_the_best_by_hypervolume_goes_on_although_it_is_beaten():
    """Two of four go on. Beside the first none adds anything, so the best of the rest is next."""
    study = a_study()
    trials = [at(study, each) for each in ((0.8, 0.5), (0.79, 0.49), (0.3, 0.3), (0.2, 0.2))]
    assert [is_pruned(study, trial) for trial in trials] == [False, False, True, True]
    again = [is_pruned(study, trial, reduction_factor=4) for trial in trials]
    assert again == [False, True, True, True]


def test_with_few_trials_at_a_rung_nobody_is_pruned():
    study = a_study()
    for each in GOOD[:2]:
        at(study, each)
    hopeless = at(study, (0.1, 0.1))
    assert not is_pruned(study, hopeless) and is_pruned(study, hopeless, n_min_trials=3)
    at(study, (0.9, 0.9), rung=SECOND)  # it was not measured at the first
    study.ask()  # nor has this one been yet
    assert not is_pruned(study, hopeless)
    at(study, GOOD[2])
    assert is_pruned(study, hopeless)


def test_only_trials_at_the_same_rung_are_compared():
    study = a_study()
    for each in GOOD:
        report(at(study, each), SECOND, ([0.1, 0.1], [0.1, 0.1]))
    poor = at(study, (0.2, 0.2))
    assert is_pruned(study, poor)
    report(poor, SECOND, ([0.2, 0.2], [0.2, 0.2]))  # the best there
    assert not is_pruned(study, poor)


def test_a_trial_without_a_rung_or_with_other_figures_is_left_alone():
    study = a_study()
    for each in (*GOOD, *GOOD):
        at(study, each)
    trial = study.ask()
    assert not is_pruned(study, trial)
    for wrong in ("high", [0.1, 0.1], [[0.1], [0.1]], [[0.1, 0.1], [0.1, "x"]], [[0.1, 2], [1, 1]]):
        trial.set_user_attr("rung-0.25", wrong)
        assert reached(frozen(study, trial), 2) == {} and not is_pruned(study, trial)


def test_pruned_trials_count_and_failed_ones_do_not():
    for state, expected in ((TrialState.PRUNED, True), (TrialState.FAIL, False)):
        study = a_study()
        for each in GOOD:
            study.tell(at(study, each), state=state)
        assert is_pruned(study, at(study, (0.1, 0.1))) is expected


def test_processes_that_share_a_storage_compare_their_trials(tmp_path):
    one = a_study(storage=f"sqlite:///{tmp_path}/shared.db")
    for each in GOOD:
        at(one, each)
    other = optuna.load_study(study_name=one.study_name, storage=f"sqlite:///{tmp_path}/shared.db")
    hopeless = at(other, (0.1, 0.1))
    assert is_pruned(other, hopeless) and is_pruned(one, hopeless)


@pytest.mark.parametrize("measures", [2, 3])
def test_a_trial_on_the_front_is_never_pruned_and_enough_go_on(measures):
    """Whatever the points and errors are; and without errors at most half and the front go on."""
    rng = random.Random(measures)
    for _ in range(20):
        study, error = a_study(measures), rng.choice((0.0, 0.05))
        count = rng.randint(4, 12)
        points = [[round(rng.random(), 1) for _ in range(measures)] for _ in range(count)]
        trials = [at(study, point, error) for point in points]
        pruned = [is_pruned(study, trial) for trial in trials]
        for is_on, is_out in zip(on_front(points), pruned, strict=True):
            assert not (is_on and is_out)
        assert sum(pruned) <= count // 2


def test_pruners_are_known_by_name():
    study = a_study()
    for each in GOOD:
        at(study, each)
    trial = frozen(study, at(study, (0.1, 0.1)))
    assert not build_pruner("none", 10).prune(study, trial)
    assert build_pruner("halving", 10).prune(study, trial)
