"""What a generator that was trained for a range is asked."""

import math

import pytest

from hypergen.errors import InputError
from hypergen.knob import (
    Knob,
    asked_text,
    knob_of,
    number_text,
    parse_beta,
    parse_radius,
    parse_values,
)


def test_several_values_are_at_equal_distances():
    assert parse_values("0.3", "beta") == [0.3]
    assert parse_values("0:1:5", "beta") == [0, 0.25, 0.5, 0.75, 1]
    assert parse_values("0.2:0.8:2", "beta") == [0.2, 0.8]
    assert parse_values("8/255", "radius") == [8 / 255]
    assert parse_values("0:2:3", "radius") == [0, 1, 2]
    exact = parse_values("0:8/255:11", "radius")
    assert exact[-1] == 8 / 255 and len(exact) == 11 and exact == sorted(exact)


@pytest.mark.parametrize(
    "text",
    ["", "2", "0:1", "1:0:3", "0:1:1", "0:1:x", "0:1:2:3", "nan", "0:1:-3", "0:1:1001", "1:1:2"],
)
def test_several_betas_are_nothing_else(text):
    with pytest.raises(InputError, match="`beta` must be a number in .* or, for several, LOW:"):
        parse_values(text, "beta")


@pytest.mark.parametrize("text", ["-0.1", "inf", "nan", "0:inf:3", "0:1", "0.2:0.1:2", "1/0", "x"])
def test_several_radii_are_nothing_else(text):
    with pytest.raises(InputError, match="`radius` must be a number from 0 or, for several, LOW:"):
        parse_values(text, "radius")


@pytest.mark.parametrize("text", ["1.1", "-0.1", "nan", "0.9:0.1", "0:0.5:1", "", ":", "half"])
def test_beta_is_nothing_else(text):
    with pytest.raises(InputError, match="`beta` must be a number in"):
        parse_beta(text)


def test_a_radius_is_a_number_or_a_range_and_is_written_as_it_is_read():
    assert parse_radius("8/255") == 8 / 255
    assert parse_radius("0:0.3") == (0, 0.3)
    for value in (0.3, (0.0, 0.3), (0.1, 8 / 255), 1.0):
        assert parse_radius(number_text(value)) == value
    assert number_text((0.0, 0.3)) == "0:0.3"
    with pytest.raises(ValueError, match="expected a number or a fraction"):
        parse_radius("0:")


def test_what_a_generator_is_given_is_a_share_of_the_whole():
    knob = Knob("radius", 0.1, 0.3, whole=0.3)
    assert knob.is_ranged and knob.given_range == pytest.approx((1 / 3, 1))
    for value in (0.1, 0.2, 0.3):
        assert knob.value(knob.given(value)) == pytest.approx(value)
    assert knob.given(0.3) == 1 and knob.value(1.0000001) == 0.3
    for value in (0.09, 0.31, math.nan):
        with pytest.raises(InputError, match=r"trained for `radius` in \[0.1, 0.3\], not"):
            knob.given(value)
    assert not Knob("beta", 0.5, 0.5).is_ranged


def test_a_row_tells_what_was_asked():
    assert knob_of({"z": [], "radius": 0.1}) == "radius" and knob_of({"sra": 0.5}) is None
    assert asked_text({"beta": 0.25}) == "beta 0.25" and asked_text({"preference": {}}) == ""
