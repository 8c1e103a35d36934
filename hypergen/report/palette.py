"""The colours and markers of kinds of networks, the same in every picture.

Colours are those of Okabe and Ito 2008, which colour-blind people tell apart; kinds that share a
colour, since one is made of the other, have different markers.
"""

import re
from collections.abc import Sequence

BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#999999"

COLOURS = {
    "sample": BLUE,
    "start": BLACK,
    "standard": VERMILLION,
    "fbf": ORANGE,
    "fbf + noise": ORANGE,
    "fbf average": ORANGE,
    "pgd": GREEN,
    "n-fgsm": PURPLE,
    "trades": SKY_BLUE,
    "measured": BLUE,
    "estimated": VERMILLION,
    "validation images": BLUE,
    "test images": VERMILLION,
    "front": BLUE,
    "front, validation images": BLUE,
    "front, test images": VERMILLION,
    "dominated": GREY,
    "dominated, validation images": GREY,
    "accuracy": BLUE,
    "robustness": VERMILLION,
    "SRA": VERMILLION,
    "PGD": SKY_BLUE,
}
"""By kind of network, and by what else pictures set side by side."""
OTHER_COLOURS = PURPLE, SKY_BLUE, BLACK, GREEN, ORANGE, VERMILLION, BLUE, YELLOW
"""Of kinds that have no colour of their own, in this order."""
MARKERS = {"fbf + noise": "X", "fbf average": "s", "start": "D"}
VOTES = "*"
OTHER_MARKERS = "o", "^", "v", "P", "d"
"""Of kinds that have no colour of their own: another one each time the colours are used up."""


def known(kind: str) -> str:
    """What stands in `COLOURS` of a kind: "sample" of "a: sample" and of "10 sample voting"."""
    kind = kind.rpartition(": ")[2]
    voting = re.fullmatch(r"\d+ (.+) voting", kind)
    return voting[1] if voting else kind


def _place(kind: str, kinds: Sequence[str]) -> int:
    """The place of a kind without a colour of its own among all such in a picture."""
    others = [each for each in dict.fromkeys(map(known, kinds)) if each not in COLOURS]
    return others.index(known(kind))


def colour(kind: str, kinds: Sequence[str]) -> str:
    """The colour of a kind among all kinds of a picture; that of its own, if it has one."""
    own = COLOURS.get(known(kind))
    return own or OTHER_COLOURS[_place(kind, kinds) % len(OTHER_COLOURS)]


def marker(kind: str, kinds: Sequence[str]) -> str:
    """The marker of a kind among all kinds of a picture, as matplotlib names it."""
    if kind.endswith(" voting"):
        return VOTES
    if known(kind) in COLOURS:
        return MARKERS.get(known(kind), "o")
    return OTHER_MARKERS[_place(kind, kinds) // len(OTHER_COLOURS) % len(OTHER_MARKERS)]


def for_text(colour: str) -> str:
    """A darker shade of the same colour, in which words can be read on white."""
    return "#" + "".join(f"{int(0.6 * int(colour[i : i + 2], 16)):02X}" for i in (1, 3, 5))
