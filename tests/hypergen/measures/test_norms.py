import pytest

from attacks import AttackError, Threat
from hypergen.errors import InputError
from hypergen.measures.norms import parse_norms


def test_norms_are_read_in_their_order():
    expected = [Threat("l2", 1.5), Threat("linf", 8 / 255), Threat("l1", 10.0)]
    assert parse_norms("l2=1.5, linf=8/255,l1=10") == expected
    assert parse_norms("l1=3") == [Threat("l1", 3.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'unknown norm ""; known: linf, l2, l1'),
        ("linf=0.1,", 'unknown norm ""; known: linf, l2, l1'),
        ("l3=1", 'unknown norm "l3"; known: linf, l2, l1'),
        ("l2", "`norms`: l2 needs a radius, as in l2=0.3 or l2=8/255"),
        ("l2=x", "`norms`: l2 needs a radius, as in l2=0.3 or l2=8/255"),
        ("l2=1,l2=2", "`norms` names l2 twice"),
        ("l2=-1", "expected a finite epsilon >= 0, got -1.0"),
        ("l2=nan", "expected a finite epsilon >= 0, got nan"),
        ("linf=8", "`epsilon` in linf is for pixels in [0,1], got 8; did you mean 8/255?"),
    ],
)
def test_what_is_none_is_told_in_one_line(text, message):
    with pytest.raises((InputError, AttackError)) as told:
        parse_norms(text)
    assert str(told.value) == message
