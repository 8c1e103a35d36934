"""Numbers without bounds: every field of every shipped settings refuses them in one line."""

from pathlib import Path

import pytest

from hypergen.config import TrainConfig
from hypergen.data.wording import abridged
from hypergen.errors import InputError
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.experiments.run_folder import ReportConfig
from hypergen.experiments.sample_config import SampleConfig
from hypergen.settings import RATE, Range, Settings, fields
from hypergen.training.direct_config import BaselineConfig

SHIPPED: list[type[Settings]] = [
    TrainConfig,
    ReportConfig,
    BaselineConfig,
    EvaluateConfig,
    SampleConfig,
]
HUGE = [10**400, 10**5000, -(10**5000), 10**19, 1e20, 1e308, -1e308, float("inf"), float("nan")]
NUMBERS = [
    (cls, field.short)
    for cls in SHIPPED
    for field in fields(cls)
    if {int, float} & {field.kind, *getattr(field.kind, "__args__", ())}
]


def refusal(cls: type[Settings], name: str, value: object) -> str:
    with pytest.raises(InputError) as told:
        cls.of(**({"count": 1} if cls is SampleConfig else {}) | {name: value})
    return str(told.value)


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda each: getattr(each, "__name__", each))
def test_every_number_has_a_least_and_a_greatest_value(cls, name):
    (field,) = [field for field in fields(cls) if field.short == name]
    assert all(abs(end) <= 1e30 for end in (field.mark(Range).low, field.mark(Range).high))
    for value in HUGE if field.mark(Range) is not RATE else HUGE[5:]:  # Adam copes with 1e20
        told = refusal(cls, name, value)
        assert name in told and "\n" not in told and len(told) < 150


@pytest.mark.parametrize(
    ("cls", "name", "value", "message"),
    [
        (TrainConfig, "steps", 10**400, "`steps` must be at most 1e+09, got about 1e400"),
        (TrainConfig, "population", 10**19, "`population` must be at most 1e+09, got 1000"),
        (TrainConfig, "latent_size", 10**12, "`latent_size` must be at most 1e+09"),
        (TrainConfig, "image_size", 100_000, "`image_size` must lie in [1,4096], got 100000"),
        (TrainConfig, "value_members", 1001, "`value_members` must lie in [1,1000], got 1001"),
        (TrainConfig, "weight_decay", 1e308, "`weight_decay` must be at most 1e+09, got 1e+308"),
        (TrainConfig, "learning_rate", 1e300, "`learning_rate` must be below 1e+30"),
        (TrainConfig, "steps", 1e20, "`steps` must be a whole number, got 1e+20"),
        (TrainConfig, "epsilon", float("inf"), "`epsilon` must be at most 1e+09, got inf"),
        (TrainConfig, "epsilon", -float("inf"), "`epsilon` must be a finite number, got -inf"),
        (TrainConfig, "epsilon", float("nan"), "`epsilon` must be at least 0, got nan"),
        (TrainConfig, "dataset", "folder:\udcff", r"`dataset` must be a text in UTF-8, got 'fold"),
        (EvaluateConfig, "restarts", 10**30, "`restarts` must be at most 1e+09"),
    ],
)
def test_what_a_refusal_says(cls, name, value, message):
    assert refusal(cls, name, value).startswith(message)


class Stranger:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7"),
        (0.5, "0.5"),
        (10**20, "1" + 20 * "0"),
        (10**5000, "about 1e5000"),
        (-(10**5000), "about -1e5000"),
        ([10**5000], "a list"),
        (Stranger(), "a Stranger"),
        (Path("a"), repr(Path("a"))),
        ("x" * 1000, "'" + "x" * 59 + "..."),
    ],
    ids=lambda value: "" if isinstance(value, int | list) else type(value).__name__,
)
def test_any_value_is_shown_in_a_few_characters(value, shown):
    assert abridged(value) == shown
