"""Signs of life of trials in a study that several machines share."""

import optuna
import pytest
from optuna.trial import TrialState

from hypergen.experiments.heartbeat import PATIENCE, SECONDS, Heartbeat, finish


class Clock:
    """Tells the time that it was set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(
        directions=["maximize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )


def begun(study: optuna.Study) -> tuple[optuna.Trial, float]:
    trial = study.ask()
    trial.set_user_attr("beat", 0)
    return trial, trial.suggest_float("beta", 0, 1)


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


def test_what_beats_is_left_alone_and_what_does_not_runs_again_once(study, recwarn):
    (alive, _), (dead, beta), (waiting, _) = (begun(study) for _ in range(3))
    clocks = Clock(), Clock()
    clocks[1].now = -5e6  # which nobody compares
    ones, others = (Heartbeat(study, clock) for clock in clocks)
    for _ in range(int(2 * PATIENCE / SECONDS)):
        ones.beat([alive])
        others.beat([waiting])
        for clock in clocks:
            clock.now += SECONDS
    running, failed = TrialState.RUNNING, TrialState.FAIL
    assert states(study) == [running, failed, running, TrialState.WAITING]
    assert len([w for w in recwarn if "trial 1 gave no sign of life" in str(w.message)]) == 1
    again, same = begun(study)
    assert same == beta and again.number == 3
    assert study.get_trials()[3].user_attrs["again"] == dead.number
    assert not finish(study, dead, TrialState.COMPLETE, [0.5, 0.5])  # it was only slow
    assert finish(study, again, TrialState.COMPLETE, [0.5, 0.5])
    others.beat([dead])  # its owner does not fail of it
    assert states(study) == [running, failed, running, TrialState.COMPLETE]


def test_a_trial_of_a_version_without_signs_is_waited_for(study):
    trial, clock = study.ask(), Clock()
    heart = Heartbeat(study, clock)
    for _ in range(int(3 * PATIENCE / SECONDS)):
        heart.beat([])
        clock.now += SECONDS
    assert states(study) == [TrialState.RUNNING] and trial.number == 0


def test_other_faults_in_telling_are_raised(study):
    trial, _ = begun(study)
    with pytest.raises(ValueError, match="values"):
        finish(study, trial, TrialState.COMPLETE, [0.5])
    assert states(study) == [TrialState.RUNNING]
