"""What a message may look like."""

import pytest

from hypergen.errors import InputError, RunError


@pytest.mark.parametrize("kind", [InputError, RunError])
def test_a_message_is_one_line_of_bearable_length(kind):
    assert str(kind("a\nb\tc\x1b[0m")) == r"a\nb\tc\x1b[0m"
    assert str(kind("no file " + "x" * 399)) == "no file " + "x" * 399
    endless = str(kind(f'unknown device "{"x" * 5000}"; known: auto'))
    assert endless.startswith('unknown device "xxx') and endless.endswith('xxx"; known: auto')
    assert "x...x" in endless and len(endless) < 400
    wordy = str(kind(f"unknown words {'abc ' * 1000} in the file"))
    assert wordy.startswith("unknown words abc") and wordy.endswith("in the file")
    assert " ... " in wordy and len(wordy) < 1500
