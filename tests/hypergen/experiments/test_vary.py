"""What a sweep can vary, and what it says of everything else."""

import pytest
from optuna.trial import FixedTrial

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments.vary import default_vary, parse_vary, with_chosen

L2 = "robustness:norm=l2,epsilon=1.5"
MEASURED = TrainConfig.of(measure=("accuracy=0.5", f"{L2}=0.3", "worst-class=0.2"))

GOOD = [
    ("beta=0:1", "beta", 0.25, "0.25"),
    ("beta=0.2,0.8", "beta", "0.8", "0.8"),
    ("beta=0:0.5,0.5:1", "beta", None, None),
    ("learning-rate=1e-4:1e-2:log", "learning_rate", 1e-3, 1e-3),
    ("learning_rate=1e-4,1e-3", "learning_rate", 1e-4, 1e-4),
    ("epsilon=0:0.3", "epsilon", 0.1, 0.1),
    ("steps=10:20", "steps", 15, 15),
    ("steps=10:1000:log", "steps", 15, 15),
    ("measure-every=1,4", "measure_every", 4, 4),
    ("objective=value,direct", "objective", "value", "value"),
    ("base=standard, fbf", "base", "fbf", "fbf"),
]
BAD = [
    ("bta=0:1", 'unknown setting "bta" .did you mean "beta"'),
    ("beta", "expected NAME=LOW:HIGH"),
    ("beta=", "expected NAME=LOW:HIGH"),
    ("=0:1", "unknown setting"),
    ("beta=0:2", r"in \[0,1\]"),
    ("beta=nan:1", "LOW below HIGH"),
    ("beta=1:0", "LOW below HIGH"),
    ("beta=0.5:0.5", "LOW below HIGH"),
    ("beta=0:1:log", "on a log scale LOW must be above 0"),
    ("beta=0.1:1:lin", "LOW below HIGH"),
    ("beta=0.1:1:log:log", "LOW below HIGH"),
    ("learning-rate=a:b", "expected numbers"),
    ("learning-rate=0:1", "above 0"),
    ("learning-rate=1e-3:inf", "below 1e"),
    ("epsilon=-1:1", "`epsilon` must be at least 0"),
    ("epsilon=0:inf", "`epsilon`"),
    ("steps=1.5:3", "expected numbers"),
    ("steps=a,b", "expected numbers"),
    ("steps=0:3", "at least 1"),
    ("objective=value,dirct", 'did you mean "direct"'),
    ("objective=value:direct", 'unknown objective "value:direct"'),
]


@pytest.mark.parametrize(("text", "field", "chosen", "expected"), GOOD)
def test_what_can_be_varied(text, field, chosen, expected):
    if chosen is None:
        with pytest.raises(ValueError, match="NAME=LOW:HIGH"):
            parse_vary(text, TrainConfig())
        return
    name, suggest = parse_vary(text, TrainConfig())
    assert name == field
    value = suggest(FixedTrial({field: chosen}))
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_cannot_be_varied(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_vary(text, TrainConfig())
    assert "\n" not in str(caught.value)


def weights(config: TrainConfig) -> dict[str, tuple[float, float]]:
    return {spec.name: (spec.low, spec.high) for spec in config.objective.specs}


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        (f"measure.{L2}=0:2", L2, 1.25),
        (f"measure.{L2}=0.1:1:log", L2, 0.5),
        ("measure.robustness=0:2", L2, 1.25),
        ("measure.worst-class=0,0.5", "worst-class", 0.5),
        ("measure.accuracy=0:1", "accuracy", 0.0),
    ],
)
def test_the_weight_of_a_measure_is_varied_and_all_else_stays(text, name, weight):
    key, suggest = parse_vary(text, MEASURED)
    assert key == f"measure.{name}"
    chosen = {key: suggest(FixedTrial({key: weight})), "steps": 7}
    made = with_chosen(MEASURED, chosen)
    assert weights(made) == weights(MEASURED) | {name: (weight, weight)}
    assert made == MEASURED.replace(measure=made.objective.measures, steps=7)


def test_accuracy_that_was_not_named_can_be_weighed_too():
    config = TrainConfig.of(measure=("int8=1",))
    key, _ = parse_vary("measure.accuracy=0:1", config)
    assert weights(with_chosen(config, {key: 0.25})) == {"accuracy": (0.25, 0.25), "int8": (1, 1)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("measure.worst-clas=0:1", 'no measure worst-clas .did you mean "worst-class"'),
        ("measure.int8=0:1", f"no measure int8; it has accuracy, {L2}, worst-class"),
        ("measure.worst-class", "expected NAME=LOW:HIGH"),
        ("measure.worst-class=0:1:log", "on a log scale LOW must be above 0"),
        ("measure.worst-class=", "expected NAME=LOW:HIGH"),
        ("measure.worst-class=1:0", "LOW below HIGH"),
        ("measure.worst-class=-1:1", "weight must be a number from 0"),
        ("measure.worst-class=0:inf", "weight must be a number from 0"),
        ("measure.worst-class=a,b", "expected numbers"),
        (f"measure.{L2}", "expected NAME=LOW:HIGH"),
        ("measure.", "no measure"),
        ("beta=0:1", "leave out `measure`"),
    ],
)
def test_weights_that_cannot_be_varied(text, words):
    with pytest.raises(InputError, match=words) as caught:
        parse_vary(text, MEASURED)
    assert "\n" not in str(caught.value)


def test_without_named_measures_there_are_no_weights_but_beta():
    with pytest.raises(InputError, match="no `measure` is named; vary beta"):
        parse_vary("measure.robustness=0:1", TrainConfig())
    assert default_vary(TrainConfig()) == ("beta=0:1",)
    assert default_vary(MEASURED) == (f"measure.{L2}=0:1", "measure.worst-class=0:1")


def test_a_weight_of_nothing_at_all_is_refused():
    config = TrainConfig.of(measure=("int8=1",))
    with pytest.raises(InputError, match="at least one weight must be above 0"):
        parse_vary("measure.int8=0:1", config)
    with pytest.raises(InputError, match="`vary` is needed: .* add `measure` accuracy=1"):
        default_vary(config)
    with pytest.raises(InputError, match="`vary` is needed: .* has all preferences"):
        default_vary(TrainConfig.of(measure=("accuracy=0:1", "int8=0:1")))


def test_a_base_may_be_none():
    name, suggest = parse_vary("base=none,fbf", TrainConfig())
    assert name == "base" and suggest(FixedTrial({"base": None})) is None
    assert suggest(FixedTrial({"base": "fbf"})) == "fbf"
