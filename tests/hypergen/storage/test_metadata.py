import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypergen.errors import InputError
from hypergen.storage.metadata import FIELDS, REQUIRED, origin, parsed, require_complete

PATH = Path("net.safetensors")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", "null", "[" * 100_000])
def test_what_is_no_object_is_none_of_ours(text, refused):
    assert "no metadata of its kind" in refused(parsed, text, PATH)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", 5),
        ("target", "two\nlines"),
        ("target", "x" * 10_000),
        ("epsilon", True),
        ("epsilon", -0.1),
        ("epsilon", float("inf")),
        ("epsilon", float("nan")),
        ("dataset", []),
        ("num_classes", 10.0),
        ("num_classes", True),
        ("num_classes", 0),
        ("input_shape", [1, 28]),
        ("input_shape", [1, 28, "28"]),
        ("input_shape", [1, 0, 28]),
        ("plugins", {}),
        ("z", ["0"]),
        ("seed", 1.5),
        ("class_names", "abc"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(field, value, refused):
    message = refused(parsed, json.dumps({field: value}), PATH)
    assert f"`{field}`" in message and "expected" in message


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(FIELDS)), JSON))
def test_anything_is_either_refused_in_one_line_or_of_the_right_type(tree):
    try:
        metadata = parsed(json.dumps(tree), PATH)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        return
    assert isinstance(metadata.get("target"), str | None)
    assert metadata.get("epsilon") is None or metadata["epsilon"] >= 0


def test_what_is_needed_must_be_there(metadata, refused):
    require_complete(metadata, PATH)
    for name in REQUIRED:
        for value in ({}, {name: None}):
            rest = {key: kept for key, kept in metadata.items() if key != name}
            assert f"lacks `{name}`" in refused(require_complete, rest | value, PATH)


def test_nothing_that_a_file_says_of_its_worth_is_passed_on(metadata):
    judged = "accuracy", "robustness", "pgd", "sra", "after", "norms", "union", "interval", "attack"
    checked = "verdict", "reasons", "checks", "estimated", "uncertainty", "certified", "whatever"
    claims = dict.fromkeys((*judged, *checked), 1.0)
    made = {"method": "pgd", "beta": 0.5, "epsilon": 0.1, "norm": "linf", "seed": 3}
    del metadata["measured"]
    assert origin(metadata | made | claims) == metadata | made
