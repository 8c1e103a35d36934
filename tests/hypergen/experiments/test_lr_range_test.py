"""The range test as a command runs it."""

import pytest

from hypergen.errors import InputError
from hypergen.experiments import lr_range_test
from hypergen.experiments.lr_range_test import PICTURE
from hypergen.training.direct_config import BaselineConfig


def test_bounds_and_a_picture(few, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(lr_range_test, "STEPS", 20)
    config, out = BaselineConfig.of(target="mlp"), tmp_path / "range"
    path, (lower, upper) = lr_range_test.test_learning_rates(config, few, out, cpu)
    assert path == out / PICTURE and path.read_bytes().startswith(b"\x89PNG")
    assert 0 < lower <= upper
    assert {each.name for each in out.iterdir()} == {PICTURE, "learning-rate.svg"}
    with pytest.raises(InputError, match="exists; choose another `out`"):
        lr_range_test.test_learning_rates(config, few, out, cpu)
