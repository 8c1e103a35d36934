import math

import pytest

from attacks import AttackError
from hypergen import data, find_lr
from hypergen.baseline import BaselineConfig, BaselineTraining
from hypergen.cli import main
from hypergen.errors import RunError

SHORT = BaselineConfig(target="mlp")


def test_the_bounds_of_a_known_curve():
    rates = [10.0**k for k in range(-5, 2)]
    losses = [2.0, 1.95, 1.6, 0.8, 0.5, 0.9, 2.0]
    assert find_lr.suggested(rates, losses) == (1e-3, 1e-1)
    assert find_lr.suggested(rates, sorted(losses)) == (1e-5, 1e-5)  # it never falls


def test_the_range_test_finds_a_rate_that_trains(few, cpu):
    rates, losses = find_lr.range_test(SHORT, few, cpu, steps=60)
    assert rates[0] == find_lr.LOWEST and len(rates) == len(losses) <= 60
    steps = [math.log(b / a) for a, b in zip(rates, rates[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    lower, upper = find_lr.suggested(rates, losses)
    assert lower < 5e-3 < 10 * upper and upper < 3


@pytest.mark.parametrize("exploded", [math.nan, AttackError("no numbers")])
def test_the_range_test_ends_where_the_loss_explodes(few, cpu, monkeypatch, exploded):
    take_step, taken = BaselineTraining.take_step, []

    def explodes(*args):
        taken.append(args)
        if len(taken) <= survived:
            return take_step(*args)
        if isinstance(exploded, float):
            return exploded
        raise exploded

    monkeypatch.setattr(BaselineTraining, "take_step", explodes)
    survived = 5
    rates, losses = find_lr.range_test(SHORT, few, cpu, steps=20)
    assert len(rates) == len(losses) == 5
    survived = 0
    with pytest.raises(RunError, match="at the lowest learning rate"):
        find_lr.range_test(SHORT, few, cpu, steps=20)


def test_the_command(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(find_lr, "STEPS", 20)
    command = ["baseline", "--target", "mlp", "--find-lr", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "train with --learning-rate" in capsys.readouterr().out
    (picture,) = tmp_path.iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(command) == 2
    assert capsys.readouterr().err.endswith("exists; choose another --out\n")
