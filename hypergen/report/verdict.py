"""Whether a run's samples are better than directly trained networks, and what to change if not."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REFERENCES = {
    "fbf": "FBF",
    "pgd": "PGD training",
    "start": "the network that training started from",
}
"""What samples are compared with: the first of these that a run has (see `reference_of`). In l1
there is no FBF, and without baselines only the start."""
CONFIDENCE = 0.95
HARDLY = 0.1
"""By how much accuracy must exceed that of guessing for a network to have learned anything."""
FAR_ABOVE = 0.1
"""How far the value network's mean estimate may lie above what was measured."""


@dataclass(frozen=True)
class Difference:
    """By how much the samples' mean lies above the others', in shares, with its 95 % interval."""

    figure: str
    mean: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    def __str__(self) -> str:
        """As in "SRA (+5.2 points, 95 % interval +1.0 to +9.4)"."""
        mean, low, high = (f"{100 * share:+.1f}" for share in (self.mean, self.low, self.high))
        return f"{self.figure} ({mean} points, 95 % interval {low} to {high})"


def verdict(result: Mapping[str, Any]) -> str:
    """What a run's samples are worth, and what to change: its `sentences`, one after the other."""
    return " ".join(sentences(result))


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Some sentences on a run's results.json: first what its samples are worth.

    Samples are compared in accuracy and in SRA, or in PGD where SRA was not measured, with the kind
    that `reference_of` names. Better and worse mean that the 95 % interval of the difference does
    not contain 0; otherwise there is no difference. Directly trained networks that are hardly
    better than guessing are told, for to be better than they are says little. Then, the first that
    holds:

    - samples hardly better than guessing: undertrained, raise `steps`.
    - worse in both, or better in nothing than the start: undertrained, raise `steps`. (What trades
      one figure for the other is worse in one alone.)
    - worse in one: move weight to it by `beta`, by the `radius` that samples of a range are drawn
      at, or by `measure` where others were named (to SRA, by `attack_steps` where it has all the
      weight); where the other is not better, `steps` may help.
    - no difference in either: more images and networks would tell.
    - no SRA: PGD flatters.

    Last, each measure that the value network puts the samples far above in (see `FAR_ABOVE`).
    """
    reference = reference_of(result)
    found = differences(result, reference)
    parts = []
    for words, chosen in (
        ("are better in", [each for each in found if each.better]),
        ("are worse in", [each for each in found if each.worse]),
        (
            "show no difference beyond chance in",
            [each for each in found if not each.better and not each.worse],
        ),
    ):
        if chosen:
            parts.append(f"{words} {' and '.join(map(str, chosen))}")
    opening = "No baselines: compared" if reference == "start" else "Compared"
    compared = f"{opening} with {REFERENCES[reference]}, samples {' and '.join(parts)}."
    learned_nothing = ""
    if reference != "start" and _guesses(result, reference):
        learned_nothing = (
            f"But {REFERENCES[reference]} has hardly learned more than to guess, so that says "
            "little; train longer: hypergen baseline --epochs."
        )
    advice = _advice(result, reference, found)
    told = (compared, learned_nothing, advice, *_overestimates(result))
    return [sentence for sentence in told if sentence]


def reference_of(result: Mapping[str, Any]) -> str:
    """The kind that a run's samples are compared with.

    It is PGD training where they were trained for robustness alone, as that is.
    """
    first = ("pgd",) if result.get("for_robustness") else ()
    return next(kind for kind in (*first, *REFERENCES) if kind in result["summary"])


def differences(result: Mapping[str, Any], reference: str) -> list[Difference]:
    """Of the samples to `reference`, in accuracy and in SRA, or PGD where SRA was not measured."""
    figures = {"accuracy": "accuracy", "sra": "SRA"}
    if result["sra"] is None:
        figures = {"accuracy": "accuracy", "pgd": f"PGD-{result['attack']['steps']}"}
    found = []
    for key, label in figures.items():
        mine, theirs = (_shares(result, kind, key) for kind in ("sample", reference))
        found.append(difference(label, mine, theirs, result["image_errors"][key][reference]))
    return found


def _shares(result: Mapping[str, Any], kind: str, key: str) -> list[float]:
    """What was measured on the networks of one kind."""
    return [row[key] for row in result["networks"] if row["kind"] == kind and key in row]


def difference(
    figure: str, mine: Sequence[float], theirs: Sequence[float], images_error: float
) -> Difference:
    """The difference of the means of shares, and its interval.

    Chance enters twice: by the networks that happened to be made, and by the images that happen to
    be in the test set, which are the same for both; images_error is their standard error.
    """
    mean = statistics.fmean(mine) - statistics.fmean(theirs)
    quantile = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    half = math.hypot(networks_error(mine, theirs), quantile * images_error)
    return Difference(figure, mean, max(-1.0, mean - half), min(1.0, mean + half))


def networks_error(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Half the 95 % interval of a difference of means, by Welch's t.

    A network that is alone on its side is taken to vary as those on the other side do. Where both
    are alone nothing is known of that, and it is left out: 0.
    """
    from scipy.stats import t  # here, for it takes a second that others need not spend

    several = [group for group in (mine, theirs) if len(group) > 1]
    if not several:
        return 0.0
    groups = [group if len(group) > 1 else several[0] for group in (mine, theirs)]
    parts = [
        statistics.variance(group) / len(own)
        for group, own in zip(groups, (mine, theirs), strict=True)
    ]
    if sum(parts) == 0:
        return 0.0
    degrees = float(len(several[0]) - 1)
    if len(several) == 2:
        degrees = sum(parts) ** 2 / sum(
            part**2 / (len(group) - 1) for part, group in zip(parts, several, strict=True)
        )
    return float(t.ppf((1 + CONFIDENCE) / 2, degrees)) * math.sqrt(sum(parts))


def _guesses(result: Mapping[str, Any], kind: str) -> bool:
    """Whether networks of a kind are hardly more accurate than a guess is."""
    return statistics.fmean(_shares(result, kind, "accuracy")) < 1 / result["num_classes"] + HARDLY


def _advice(result: Mapping[str, Any], reference: str, found: Sequence[Difference]) -> str:
    """What to change, in a sentence; nothing where all is well. Rules as in `verdict`."""
    accuracy, robustness = found
    if _guesses(result, "sample"):
        return "Samples hardly do more than guess and are undertrained: raise `steps`."
    worse = [each for each in found if each.worse]
    better = [each for each in found if each.better]
    if len(worse) == 2:
        return "Worse in both is no trade-off: they are undertrained, raise `steps`."
    if reference == "start" and not better:
        return "They are undertrained: raise `steps`."
    if worse:
        asked = any("radius" in row for row in result["networks"])
        way = ("lower" if accuracy.worse else "raise") + (" `radius`" if asked else " `beta`")
        if robustness.worse and result.get("for_robustness"):  # there is hardly more of it
            way = "raise `attack_steps`"
        if set(result["measures"]) != {"accuracy", "robustness"}:  # beta weighs no others
            name = "accuracy" if accuracy.worse else "robustness"
            way = f"raise the weight of `measure` {name}"
        if better:
            return f"That is a trade-off: {way} for more {worse[0].figure}."
        return f"For more {worse[0].figure} {way}, or raise `steps`."
    if not better:
        sizes = "`images`" if result["sra"] is None else "`sra_images` and `sra_samples`"
        return f"More {sizes} would tell smaller differences in {robustness.figure}."
    if result["sra"] is None:
        return "PGD alone flatters: set `sra_samples` above 0 for standard robust accuracy."
    return ""


def _overestimates(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each measure of which the value network told the generator far too much."""
    if result["objective"] == "direct":  # whose generator never sees the value network
        return []
    return [
        f"The value network puts {name} of the samples {100 * figures['overestimate']:.1f} points "
        "too high: a generator trained by it may have learned to please it. How much of it is due "
        f"to the measurements that it was fitted to, check/{name}/gap in metrics.jsonl says, where "
        "the run was checked."
        for name, figures in result["value_network"].items()
        if figures["overestimate"] > FAR_ABOVE
    ]
