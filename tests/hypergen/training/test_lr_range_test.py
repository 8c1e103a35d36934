import math

import pytest

from attacks import AttackError
from hypergen.errors import RunError
from hypergen.training import lr_range_test
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig

SHORT = BaselineConfig(target="mlp")


def test_the_bounds_of_a_known_curve():
    rates = [10.0**k for k in range(-5, 2)]
    losses = [2.0, 1.95, 1.6, 0.8, 0.5, 0.9, 2.0]
    assert lr_range_test.suggested_bounds(rates, losses) == (1e-3, 1e-1)
    assert lr_range_test.suggested_bounds(rates, sorted(losses)) == (1e-5, 1e-5)  # it never falls


def test_the_range_test_finds_a_rate_that_trains(few, cpu):
    rates, losses = lr_range_test.range_test(SHORT, few, cpu, steps=60)
    assert rates[0] == lr_range_test.LOWEST and len(rates) == len(losses) <= 60
    steps = [math.log(b / a) for a, b in zip(rates, rates[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    lower, upper = lr_range_test.suggested_bounds(rates, losses)
    assert lower < 5e-3 < 10 * upper and upper < 3


@pytest.mark.parametrize("exploded", [math.nan, AttackError("no numbers")])
def test_the_range_test_ends_where_the_loss_explodes(few, cpu, monkeypatch, exploded):
    take_step, taken = DirectTrainer.take_step, []

    def explodes(*args):
        taken.append(args)
        if len(taken) <= survived:
            return take_step(*args)
        if isinstance(exploded, float):
            return exploded
        raise exploded

    monkeypatch.setattr(DirectTrainer, "take_step", explodes)
    survived = 5
    rates, losses = lr_range_test.range_test(SHORT, few, cpu, steps=20)
    assert len(rates) == len(losses) == 5
    survived = 0
    with pytest.raises(RunError, match="at the lowest learning rate"):
        lr_range_test.range_test(SHORT, few, cpu, steps=20)


def test_every_step_that_is_kept_is_told(few, cpu):
    steps = []
    rates, _ = lr_range_test.range_test(SHORT, few, cpu, 4, lambda: steps.append(None))
    assert len(steps) == len(rates) == 4
