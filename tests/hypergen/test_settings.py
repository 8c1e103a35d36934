"""Settings: what a field takes, by its annotation."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from hypergen.errors import InputError
from hypergen.knob import parse_number
from hypergen.registry import REGISTRIES, Registry
from hypergen.settings import (
    COUNT,
    RATE,
    SEED,
    SHARE,
    Range,
    Registered,
    Settings,
    Short,
    differences,
    fields,
)
from tests.hypergen.future_settings import Later


@pytest.fixture(scope="module", autouse=True)
def no_registry_stays():
    yield
    REGISTRIES.pop("shape of a test")


SHAPES: Registry[Any] = Registry("shape of a test", {"round": object})


@dataclass(frozen=True)
class Inner(Settings):
    """A part."""

    kind: Annotated[str, Registered(SHAPES, ("auto",)), Short("shape")] = "auto"
    size: Annotated[int, Range(1)] = 3


@dataclass(frozen=True)
class Outer(Settings):
    """A whole with a part."""

    count: Annotated[int, COUNT]
    share: Annotated[float, SHARE] = 0.5
    rate: Annotated[float | None, RATE] = None
    seed: Annotated[int, SEED] = 0
    flag: bool = False
    text: str = "a"
    norm: Literal["linf", "l2"] = "linf"
    names: tuple[str, ...] = ()
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)

    def require(self) -> None:
        if self.flag and self.text == "a":
            raise InputError("`flag` does not go with `text` a")


TAKEN = [
    ("count", np.int64(3), 3, int),
    ("count", np.uint8(3), 3, int),
    ("share", 1, 1.0, float),
    ("share", np.float64(0.25), 0.25, float),
    ("share", np.float32(0.25), 0.25, float),
    ("share", np.int8(0), 0.0, float),
    ("rate", None, None, type(None)),
    ("rate", 1e-3, 1e-3, float),
    ("seed", 2**62 - 1, 2**62 - 1, int),
    ("norm", "l2", "l2", str),
    ("names", ["a", "b"], ("a", "b"), tuple),
    ("names", (), (), tuple),
    ("shape", "round", "round", str),
    ("shape", "auto", "auto", str),
]


@pytest.mark.parametrize(("name", "value", "held", "kind"), TAKEN)
def test_a_field_takes_what_it_is_declared_to_hold(name, value, held, kind):
    found = Outer.of(**{"count": 1, name: value}).flat()[name]
    assert found == held and type(found) is kind


REFUSED = [
    ("count", True, "`count` must be a whole number, got True"),
    ("count", 1.0, "`count` must be a whole number, got 1.0"),
    ("count", "1", "`count` must be a whole number, got '1'"),
    ("count", None, "`count` must be a whole number, got None"),
    ("count", np.bool_(True), "`count` must be a whole number"),
    ("count", 0, "`count` must be at least 1, got 0"),
    ("share", True, "`share` must be a number, got True"),
    ("share", np.bool_(False), "`share` must be a number"),
    ("share", np.ones(2), "`share` must be a number"),
    ("share", 1.5, "`share` must lie in [0,1], got 1.5"),
    ("share", float("nan"), "`share` must lie in [0,1], got nan"),
    ("share", 10**400, "`share` is larger than any floating-point number"),
    ("rate", 0, "`rate` must be above 0, got 0.0"),
    ("rate", float("inf"), "`rate` must be below 1e+30, got inf"),
    ("rate", -float("inf"), "`rate` must be a finite number, got -inf"),
    ("seed", -1, "`seed` must be at least 0, got -1"),
    ("seed", 2**62, "`seed` must be below 4.61e+18, got 4611686018427387904"),
    ("seed", 10**400, "`seed` must be below 4.61e+18, got about 1e400"),
    ("count", 10**400, "`count` must be at most 1e+09, got about 1e400"),
    ("text", "a\udcff", "`text` must be a text in UTF-8, got 'a\\udcff'"),
    ("flag", 1, "`flag` must be true or false, got 1"),
    ("text", 3, "`text` must be a text, got 3"),
    ("norm", "l3", 'unknown norm "l3"; known: linf, l2'),
    ("norm", None, "`norm` must be one of linf, l2, got None"),
    ("names", "ab", "`names` must be a list, got 'ab'"),
    ("names", [1], "`names` must be a text, got 1"),
    ("path", "a/b", "`path` must be a path, got 'a/b'"),
    ("shape", "rond", 'unknown shape of a test "rond" (did you mean "round"?)'),
    ("size", 0, "`size` must be at least 1, got 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_field_refuses_all_else_in_one_line(name, value, message):
    with pytest.raises(InputError) as refusal:
        Outer.of(**{"count": 1, name: value})
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_a_part_is_settings_of_its_own():
    with pytest.raises(InputError, match="`inner` must be a Inner, got 3"):
        Outer(count=1, inner=3)  # pyright: ignore[reportArgumentType]


def test_a_range_never_admits_what_is_no_number():
    for bounds in (Range(), Range(0), Range(0, 1), RATE):
        assert not any(map(bounds.admits, (float("nan"), float("inf"), -float("inf"))))
    assert Range(0, 1, above=True).admits(1) and not Range(0, 1, above=True).admits(0)
    assert Range(0, 1, below=True).admits(0) and not Range(0, 1, below=True).admits(1)


def test_fields_that_do_not_go_together_are_refused_however_they_came_about():
    with pytest.raises(InputError, match="`flag` does not go with"):
        Outer(count=1, flag=True)
    with pytest.raises(InputError, match="`flag` does not go with"):
        Outer(count=1, flag=True, text="b").replace(text="a")


def test_short_names_lead_to_the_fields_of_all_parts():
    made = Outer.of(count=2, shape="round", size=7)
    assert made == Outer(2, inner=Inner("round", 7))
    assert [each.short for each in fields(Outer)] == list(made.flat())
    assert made.flat()["shape"] == "round" and "kind" not in made.flat()
    assert Outer.of(**made.flat()) == made
    assert made.replace(size=3).inner == Inner("round", 3)
    assert made.replace() == made


@pytest.mark.parametrize("make", [lambda **new: Outer.of(**new), Outer(1).replace])
def test_an_unknown_short_name_is_refused(make):
    with pytest.raises(InputError, match=r'unknown setting `shap` \(did you mean "shape"\?\)'):
        make(count=1, shap="round")
    with pytest.raises(InputError, match="unknown setting `kind`; known: count, share"):
        make(count=1, kind="round")


def test_a_tree_gives_the_same_settings_back():
    made = Outer.of(count=2, names=("a",), shape="round", rate=0.5)
    tree = asdict(made)
    assert Outer.from_tree(tree, "config.json") == made
    assert Outer.from_tree(tree | {"names": ["a"]}, "config.json") == made  # as JSON has it


def test_a_tree_from_before_a_setting_that_is_off_by_default_is_read():
    @dataclass(frozen=True)
    class Newer(Inner):
        bound: float | None = None

    assert Newer.from_tree(asdict(Inner()), "config.json") == Newer()


def test_a_tree_that_is_none_is_refused_with_its_file():
    tree = asdict(Outer(1))
    wrong = [
        ("text", "c.json: expected settings, got str"),
        ({n: v for n, v in tree.items() if n != "flag"}, "c.json lacks the setting flag"),
        (tree | {"flagg": True}, "c.json has an unknown setting flagg"),
        (tree | {"inner": {"kind": "auto"}}, "c.json lacks the setting size"),
        (tree | {"inner": 3}, "c.json: expected settings, got int"),
        (tree | {"count": True}, "c.json: `count` must be a whole number, got True"),
        (tree | {"count": [1]}, "c.json: `count` must be a whole number"),
        (tree | {"inner": {"kind": "rond", "size": 1}}, "c.json: unknown shape of a test"),
        (tree | {"flag": True}, "c.json: `flag` does not go with"),
    ]
    for each, message in wrong:
        with pytest.raises(InputError) as refusal:
            Outer.from_tree(each, "c.json")
        assert str(refusal.value).startswith(message)


def test_differences_name_what_is_another():
    assert Outer(1).differences(Outer.of(count=2, size=4)) == ["count: 1, not 2", "size: 3, not 4"]
    assert Outer(1).differences(Outer(1)) == []
    assert differences({}, {"a": 1}) == ["a: None, not 1"]


def test_annotations_that_are_text_are_checked_as_well():
    assert Later(steps=2, norm="l2").flat() == {"steps": 2, "norm": "l2", "size": 3}
    for name, value in (("steps", 0), ("steps", True), ("norm", "l3"), ("size", 0)):
        with pytest.raises(InputError):
            Later.of(**{name: value})


def test_what_is_inherited_is_checked_as_well():
    @dataclass(frozen=True)
    class More(Inner):
        more: Annotated[int, Range(1)] = 1

    @dataclass(frozen=True)
    class Other(Inner):
        size: Annotated[int, Range(10)] = 10  # another bound in place of the inherited one

    assert list(More().flat()) == ["shape", "size", "more"]
    for cls, name, value in ((More, "size", 0), (More, "more", 0), (Other, "size", 9)):
        with pytest.raises(InputError, match=f"`{name}` must be at least"):
            cls.of(**{name: value})


def test_a_registry_that_nothing_has_filled_yet_takes_any_name():
    empty: Registry[Any] = Registry("shape of a test", {})

    @dataclass(frozen=True)
    class Early(Settings):
        shape: Annotated[str, Registered(empty)] = "round"

    assert Early(shape="rond").shape == "rond"
    empty.register("round")(object)
    assert Early().shape == "round"
    with pytest.raises(InputError, match="did you mean"):
        Early(shape="rond")


@pytest.mark.parametrize(
    ("text", "number"), [("0.1", 0.1), ("1e-3", 1e-3), ("8/255", 8 / 255), ("-1/2", -0.5)]
)
def test_numbers_are_read_with_fractions(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "x", "1/0", "1/", "1/1e400", "9" * 5000 + "/7", "1/2/3"])
def test_what_is_no_number_is_told_in_one_line(text):
    with pytest.raises(ValueError, match="expected a number or a fraction such as 8/255") as told:
        parse_number(text)
    assert len(str(told.value)) < 130
