"""Files of JSON lines, whole, cut short and damaged."""

import json

import pytest

from hypergen.storage.json_lines import json_lines

RECORDS = [{"step": 0}, {"step": 1, "text": "a\u2028b"}, {"step": 2}]
LINES = [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in RECORDS]


def test_cut_anywhere_the_whole_lines_are_left():
    raw = b"".join(LINES)
    for length in range(len(raw) + 1):
        found = [*json_lines(raw[:length])]
        whole = raw[:length].count(b"\n")
        assert [line for line, _ in found] == LINES[:whole]
        assert [record for _, record in found] == RECORDS[:whole]


@pytest.mark.parametrize(
    "damage",
    [b"\n", b"5\n", b"[]\n", b"\xff\n", b"\0" * 40 + b"\n", b"{\n", b"[" * 100_000 + b"\n"],
)
def test_nothing_behind_a_damaged_line_is_read(damage):
    found = [*json_lines(LINES[0] + damage + LINES[1])]
    assert found == [(LINES[0], RECORDS[0])]
