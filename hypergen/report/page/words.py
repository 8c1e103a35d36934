"""The words of a page that a newcomer may not know, each with what it means."""

import re
from collections.abc import Iterable

from hypergen.report.tables import Table

MEANINGS = {
    "accuracy": "% of images, as they are, that a network puts into the right class",
    "SRA": "standard robust accuracy: % of images that stay right under each of four strong "
    "attacks, APGD-CE, APGD-T, FAB-T and Square; the figure to judge by",
    "robustness": "% of images that stay right under attack; which attack stands with the figure",
    "epsilon": "how far an attack may go from an image, whose pixels are in [0,1], in the norm "
    "that stands with it: linf is the largest change of any pixel",
    "beta": "weight of robustness in training, from 0 to 1; accuracy has the rest",
    "radius": "the epsilon that a network was asked to withstand; all are judged at the largest",
    "z": "the numbers that a sample is made of: the generator maps them to its weights",
    "networks": "how many of a kind were measured",
    "disagree": "% of images that two networks class differently, mean over all pairs",
    "error overlap": "of the images that either of two networks gets wrong, % that both do",
    "value network": "estimates a network's measures from what it answers; it is what a generator "
    "can be trained by where a measure has no gradient",
    "estimated": "by the value network, before anything was measured",
    "overestimate": "the value network's estimates less what was measured, mean",
    "mean error": "how far the value network's estimates are off, whichever way, mean",
    "measuring error": "standard error of a measured figure, for it is of so few images",
    "spread": "standard deviation of what was measured, over the samples",
    "Kendall's tau": "whether estimates put networks into the right order: 1 if they do, 0 for "
    "chance, -1 for the reverse",
    "R2": "share of the samples' variance that the estimates explain; below 0 they are worse than "
    "the mean",
    "gap": "what training was told less a longer measurement of the same networks: above 0 the "
    "quick measurement flatters",
    "hypervolume": "how far networks reach in all measures at once: the share of all that is "
    "better than guessing which some network is at least as good as",
    "interval": "in 19 of 20 cases the true figure lies in it (95 %)",
    "front": "those that no other beats in all measures at once",
    "dominated": "beaten by another in all measures at once",
    "val": "validation images: what is chosen is chosen by them, and test images only tell",
}
PGD = "% of images that stay right under projected gradient descent, which flatters"


def meaning(word: str) -> str | None:
    """What a word means that stands at the head of a row or a column; None for any other text."""
    if re.fullmatch(r"(?i)pgd(-\d+)?", word):
        return PGD
    return MEANINGS.get(word)


def glossary(tables: Iterable[Table], also: Iterable[str] = ()) -> dict[str, str]:
    """The words at the heads of the tables that have a meaning, and others, each with its own.

    What a table itself says of a word goes before.
    """
    found: dict[str, str] = {}
    for table in tables:
        for word in (*table.headers, *(row[0] for row in table.rows)):
            told = table.key.get(word) or meaning(word)
            if told is not None:
                found.setdefault(word, told)
    return found | {word: MEANINGS[word] for word in also if word not in found}
