import pytest

from hypergen.report.names import tails


@pytest.mark.parametrize(
    "names",
    [
        {"/tmp/x/run": "run"},
        {"a/run": "a/run", "b/run": "b/run", "b/c": "c"},
        {"a/run/": "a/run", "b/run": "b/run"},
        {"run": "run", "a/run": "a/run"},
        {"a: sample": "a: sample", "b: sample": "b: sample", "a: fbf": "fbf"},
        {"x/a: sample": "x/a: sample", "y/a: sample": "y/a: sample"},
        {"sample": "sample", "fbf": "fbf"},
        {"sample": "sample", "a: sample": "a: sample"},
    ],
)
def test_a_path_is_called_by_as_little_as_tells_it_from_the_others(names):
    assert tails([*names]) == names
    assert len({*tails([*names]).values()}) == len(names)
