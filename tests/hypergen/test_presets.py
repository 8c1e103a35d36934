"""Presets: settings of published protocols."""

from typing import get_args

import pytest

import hypergen.models.generator
import hypergen.models.value_network  # noqa: F401  (these fill their registries)
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.presets import PRESETS, PresetName, preset


def test_every_name_has_settings():
    assert get_args(PresetName) == tuple(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_it_says_and_else_the_usual(name):
    found, usual = preset(name).flat(), TrainConfig().flat()
    assert found == usual | PRESETS[name]


def test_the_thesis_trains_by_the_value_network_alone():
    thesis = preset("thesis")
    assert thesis.objective.kind == "value" and thesis.optimisation.population == 1
    assert thesis.optimisation.learning_rate == 0.01
    assert thesis.value_network.learning_rate == 0.35


def test_an_unknown_preset_is_told_with_the_nearest():
    with pytest.raises(InputError, match='unknown preset "thesys".*did you mean "thesis"'):
        preset("thesys")
