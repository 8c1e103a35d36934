"""How measures, their options and weights are asked for."""

import pytest

from hypergen.config import ObjectiveConfig, TrainConfig
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec


def test_a_measure_is_read_with_its_options_and_weight():
    assert MeasureSpec.parse("int8=0.2") == MeasureSpec("int8", "int8", {}, 0.2, 0.2)
    spec = MeasureSpec.parse("robustness:norm=l2,epsilon=8/16=0.3")
    assert (spec.name, spec.kind) == ("robustness:norm=l2,epsilon=8/16", "robustness")
    assert spec.options == {"norm": "l2", "epsilon": 0.5}
    assert (spec.low, spec.high, spec.is_ranged) == (0.3, 0.3, False)
    ranged = MeasureSpec.parse("int8:bits=4=0:1")
    assert (ranged.name, ranged.low, ranged.high, ranged.is_ranged) == ("int8:bits=4", 0, 1, True)


@pytest.mark.parametrize(
    "text",
    ["int8", "=1", "int8=", "int8=x", "int8=-1", "int8=nan", "int8=inf", "int8=1:0", "int8=1:x"]
    + [":a=1=1", "int8:=1", "int8:bits=1", "int8:bits==1", "int8:bits=4,=1", "", "int8=1/0"],
)
def test_what_is_no_measure_is_told_in_one_line(text):
    with pytest.raises(InputError, match="^`measure`[^\n]*$"):
        MeasureSpec.parse(text)


def test_accuracy_comes_first_and_is_always_there():
    def names(*measures: str) -> list[str]:
        return [spec.name for spec in ObjectiveConfig.of(measure=measures).specs]

    assert names("int8=1", "accuracy=2") == ["accuracy", "int8"]
    assert names("int8=1") == ["accuracy", "int8"]
    usual = ObjectiveConfig.of(beta="0.3").specs
    assert [(spec.name, spec.high) for spec in usual] == [("accuracy", 0.7), ("robustness", 0.3)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"measure": ("accuracy=0", "int8=0")}, "at least one weight"),
        ({"measure": ("int8=1", "int8=2")}, "given twice"),
        ({"measure": ("int8=1",), "beta": "0.7"}, "leave out `measure`"),
        ({"measure": ("int8=0:1", "accuracy=1")}, "needs a second one"),
        ({"measure": ("int8=0:1", "accuracy=0:1"), "generator": "published"}, "knows no range"),
    ],
)
def test_measures_that_do_not_go_together_are_told_in_one_line(settings, reason):
    with pytest.raises(InputError, match=reason) as told:
        TrainConfig.of(**settings)
    assert "\n" not in str(told.value)
