import pytest

from hypergen.report.palette import COLOURS, GREY, colour, for_text, marker

OKABE_ITO = {
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
}
"""As the authors publish them: jfly.uni-koeln.de/color."""


def luminance(hue: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [int(hue[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_are_those_that_colour_blind_people_tell_apart():
    assert {*COLOURS.values()} <= OKABE_ITO | {GREY}


def test_a_kind_has_its_colour_in_whatever_run_and_others_have_one_of_their_own():
    names = ["a: sample", "mine", "b: sample", "yours"]
    assert colour("a: sample", names) == colour("b: sample", names) == COLOURS["sample"]
    assert len({colour(name, names) for name in names}) == 3
    assert colour("10 sample voting", ["10 sample voting"]) == COLOURS["sample"]


def test_no_two_kinds_look_alike():
    named = ["sample", "start", "standard", "fbf", "fbf + noise", "fbf average", "pgd", "n-fgsm"]
    named += ["trades", "10 sample voting", "3 fbf voting"]
    unknown = [f"network {number}" for number in range(40)]
    for kinds in (named, unknown, ["sample", "pgd", *unknown[:30]]):
        assert len({(colour(kind, kinds), marker(kind, kinds)) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", COLOURS)
def test_words_in_a_kinds_colour_can_be_read_on_white(kind):
    contrast = 1.05 / (luminance(for_text(COLOURS[kind])) + 0.05)
    assert contrast > 4.5  # WCAG 2, level AA
