"""What one generator's trade-off comes to."""

import itertools
import math
import random
from typing import cast

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.evaluation import trade_off
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.statistics import prediction_interval
from hypergen.evaluation.trade_off import curve, hypervolume, on_front, spread, value_for_accuracy


def test_a_point_on_the_front_is_beaten_by_none():
    assert on_front([[0.9, 0.2], [0.8, 0.3], [0.8, 0.2], [0.9, 0.2]]) == [True, True, False, False]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1.0, 1.0]], 1.0),
        ([[0.1, 1.0]], 0.0),  # as accurate as a guess
        ([[0.05, 0.9], [1.0, 0.0]], 0.0),
        ([[0.55, 0.5]], 0.25),
        ([[0.55, 0.5], [1.0, 0.25]], 0.375),
        ([[0.55, 0.5], [0.3, 0.3]], 0.25),  # the second is dominated
        ([[1.0, 0.5, 0.5]], 0.25),
    ],
)
def test_the_hypervolume_is_a_share_of_what_is_better_than_guessing(points, expected):
    assert hypervolume(points, num_classes=10) == pytest.approx(expected)


def test_the_hypervolume_is_what_random_points_say():
    rng = random.Random(0)
    points = [[rng.random() for _ in range(3)] for _ in range(6)]
    hits = 0
    for _ in range(20_000):
        at = [0.5 + rng.random() / 2, rng.random(), rng.random()]
        hits += any(all(a <= p for a, p in zip(at, point, strict=True)) for point in points)
    assert hypervolume(points, num_classes=2) == pytest.approx(hits / 20_000, abs=0.015)


def test_a_new_value_lies_in_the_interval_as_often_as_is_said():
    rng, inside = random.Random(0), 0
    for _ in range(2000):
        *values, new = (rng.gauss(0.9, 0.01) for _ in range(5))
        low, high = prediction_interval(values) or (0, 0)
        inside += low <= new <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert prediction_interval([0.5]) is None
    # t = 12.706 with one degree of freedom, a standard deviation of sqrt(2) / 10.
    reach = 12.7062 * math.sqrt(0.02) * math.sqrt(1.5)
    assert prediction_interval([0.4, 0.6]) == pytest.approx([0.5 - reach, 0.5 + reach], abs=1e-4)


def test_a_curve_has_a_point_for_each_beta():
    rows = [{"beta": b, "accuracy": a} for b, a in ((0.5, 0.8), (0.0, 1.0), (0.5, 0.6))]
    first, second = curve(rows, ["accuracy"])
    assert first == {"beta": 0.0, "count": 1, "accuracy": {"mean": 1.0, "interval": None}}
    assert (second["beta"], second["count"]) == (0.5, 2)
    assert second["accuracy"]["mean"] == pytest.approx(0.7)


def test_those_come_first_that_add_most():
    points = [[0.6, 0.6], [0.5, 0.5], [0.95, 0.1], [0.1, 0.1], [0.2, 0.99], [0.6, 0.6]]
    chosen = spread(points, 6, num_classes=10)
    assert chosen[:3] == [0, 4, 2]  # each adds less than the one before; 1 and 5 add nothing
    assert sorted(chosen) == [0, 1, 2, 3, 4, 5] and chosen[3] == 5
    assert spread(points, 2, num_classes=10) == [0, 4] and spread(points, 99, 10) == chosen


def test_few_points_reach_nearly_what_the_best_few_do():
    rng = random.Random(0)
    points = [[0.1 + 0.9 * rng.random(), rng.random()] for _ in range(9)]
    reached = hypervolume([points[i] for i in spread(points, 3, 10)], 10)
    best = max(hypervolume([*some], 10) for some in itertools.combinations(points, 3))
    assert (1 - 1 / math.e) * best <= reached <= best


class Knob:
    """A sampler whose networks are as accurate as 0.9 less half of beta; notes what it is asked."""

    def __init__(self, beta: str = "0:0.8"):
        self.config = TrainConfig.of(beta=beta)

    def sample(self, count, beta, seed):
        assert count == trade_off.DRAWN and seed == 7
        return beta


@pytest.mark.parametrize(("least", "expected"), [(0.7, 0.4), (0.69, 0.4), (0.5, 0.8), (0.89, 0.0)])
def test_the_largest_beta_that_is_accurate_enough(least, expected, few, monkeypatch):
    seen = []

    def accuracies(beta, images, labels):
        seen.append(images)
        return torch.full((4,), 0.9 - beta / 2 + 1e-6)

    monkeypatch.setattr(trade_off, "accuracies", accuracies)
    sampler = cast(Sampler, Knob())
    found = value_for_accuracy(sampler, few, least, seed=7)
    assert found == pytest.approx(expected)
    assert all(images.equal(few.val.first(len(few.val))[0]) for images in seen)
    with pytest.raises(InputError, match=r"at beta 0 networks have 0.9000 on validation images"):
        value_for_accuracy(sampler, few, 0.95, seed=7)


def test_a_generator_of_one_beta_has_no_choice(few):
    with pytest.raises(InputError, match="trained on a range of beta"):
        value_for_accuracy(cast(Sampler, Knob("0.5")), few, 0.5)
