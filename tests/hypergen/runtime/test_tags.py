import re
from pathlib import Path

import pytest

from hypergen.runtime.tags import TAGS, layout, tag_of

PAGE = Path(__file__).parents[3] / "docs" / "tensorboard.md"


def test_the_documentation_has_every_tag_and_no_other():
    table = PAGE.read_text().split("| tag | unit | meaning |\n|---|---|---|\n")[1]
    rows = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in table.splitlines()]
    assert rows == [(tag.name, tag.unit, tag.meaning) for tag in TAGS]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("loss", "loss"),
        ("measured/accuracy", "measured/MEASURE"),
        ("check/robustness:norm=l2", "check/MEASURE"),
        ("check/robustness:norm=l2/gap", "check/MEASURE/gap"),
        ("check/robustness/overestimate", "check/MEASURE/overestimate"),
        ("check/attack_steps", "check/attack_steps"),
        ("check/epsilon", "check/epsilon"),
        ("final/fbf + noise/sra", "final/KIND/MEASURE"),
    ],
)
def test_a_metric_is_known_by_its_name(name, found):
    assert tag_of(name).name == found and tag_of(name).unit


def test_an_unknown_metric_has_no_meaning():
    assert (tag_of("losses").unit, tag_of("losses").meaning) == ("", "")


def test_the_layout_shows_a_measure_whatever_signs_its_name_has():
    charts = layout(["int8:bits=4", "a+b"])["measures: told in training, estimated, checked"]
    patterns = [pattern for tags in charts.values() for pattern in tags]
    for place, name in enumerate(("int8:bits=4", "a+b")):
        for kind in ("measured", "estimated", "check"):
            hits = [bool(re.match(pattern, f"{kind}/{name}")) for pattern in patterns]
            assert hits == [place == 0, place == 1]
            assert not any(re.match(pattern, f"{kind}/{name}/gap") for pattern in patterns)
