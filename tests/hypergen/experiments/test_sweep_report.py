"""What a sweep tells beside its front."""

import optuna
import pytest

from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.sweep_report import history, importance, of_front

POINTS = [(0.5, 0.1), (0.4, 0.1), (0.9, 0.2), (0.5, 0.7)]
MEASURES = "accuracy", "robustness"


@pytest.fixture
def study() -> optuna.Study:
    """Accuracy follows `beta`, robustness stays as it is."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "maximize"])
    distributions = {
        name: optuna.distributions.FloatDistribution(0, 1) for name in ("beta", "nothing")
    }
    for index in range(30):
        given = {"beta": index / 30, "nothing": index * 7 % 30 / 30}
        values = [1 - index / 30, 0.5]
        study.add_trial(
            optuna.trial.create_trial(params=given, distributions=distributions, values=values)
        )
    return study


def test_the_history_is_the_hypervolume_of_what_was_there():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "maximize"])
    for point in POINTS:
        study.tell(study.ask(), point)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    found = history(study, num_classes=10)
    assert found == [hypervolume(POINTS[: count + 1], 10) for count in range(4)]
    assert found == sorted(found) and found[0] == found[1] < found[2]


def test_what_moves_a_measure_is_important(study):
    found = importance(study, MEASURES)
    assert found["accuracy"]["beta"] > 0.9 and sum(found["accuracy"].values()) == pytest.approx(1)
    assert found["robustness"] == {}
    assert importance(study, MEASURES) == found


def test_nothing_is_told_of_no_trials():
    study = optuna.create_study(directions=["maximize", "maximize"])
    assert of_front(study, {}, MEASURES, 10) == {
        "hypervolume": {"history": [], "test": None},
        "importance": {"accuracy": {}, "robustness": {}},
    }


def test_the_front_on_test_images_has_its_hypervolume(study):
    front = {0: {"accuracy": 0.9, "robustness": 0.5}, 1: None}
    assert of_front(study, front, MEASURES, 10)["hypervolume"]["test"] == hypervolume(
        [[0.9, 0.5]], 10
    )
