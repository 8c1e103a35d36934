"""What a sweep can vary, and what it says of everything else."""

import pytest
from optuna.trial import FixedTrial

from hypergen.config import TrainConfig
from hypergen.experiments.vary import parse_vary

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
    ("beta=0:1:log", "LOW below HIGH"),
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


def test_a_base_may_be_none():
    name, suggest = parse_vary("base=none,fbf", TrainConfig())
    assert name == "base" and suggest(FixedTrial({"base": None})) is None
    assert suggest(FixedTrial({"base": "fbf"})) == "fbf"
