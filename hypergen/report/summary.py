"""What a run says at its end: its networks as a table, the value network, what to do next."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.report.tables import OUTSIDE, Table, images_text, mean_and_std, percent, threat_text

ALL_IMAGES = "*"
"""Stands behind a PGD figure that is of more images than SRA in the same table."""
RANKS_WELL, RANKS_ROUGHLY = 0.6, 0.3
"""Least Kendall's tau of either word: 80 % and 65 % of all pairs are in the right order."""
FEWEST_RANKED = 4
"""Samples that tau says something of: chance alone ranks three rightly one time in six."""
KEY = {
    "sample": "networks drawn from the generator",
    "start": "the network that training started from: the base, or an untrained one",
    "standard": "a network trained directly, on clean images alone",
    "fbf": 'networks trained directly by "fast is better than free", one attack step a batch',
    "pgd": "a network trained directly on images attacked by PGD",
    "fbf + noise": "an FBF network plus random noise, as large as samples differ from each other",
    "fbf average": "one network whose weights are the mean of the FBF networks' weights",
}
"""What the kinds of networks in a run's table are."""
VOTING = "networks that answer as one, by the mean of their probabilities"


def run_table(result: Mapping[str, Any]) -> Table:
    """A run's results.json as a table: a row a kind of network, the value network below.

    Where SRA was measured, PGD stands beside it on the same images and networks
    (`pgd_on_sra_images`); a kind without SRA shows PGD on all attacked images, marked.
    """
    with_sra = result["sra"] is not None
    pgd = f"PGD-{result['attack']['steps']}"
    others = [name for name in result["measures"] if name not in ("accuracy", "robustness")]
    rows, marked = [], False
    for kind, summary in result["summary"].items():
        of_all_images = with_sra and "sra" not in summary
        marked |= of_all_images
        beside = summary["pgd_on_sra_images" if "sra" in summary else "pgd"]
        rows.append(
            (
                kind,
                str(summary["count"]),
                mean_and_std(summary["accuracy"]),
                mean_and_std(beside) + (ALL_IMAGES if of_all_images else ""),
                mean_and_std(summary.get("sra")),
                *(mean_and_std(summary.get(name)) for name in others),
                percent(result["disagreement"].get(kind)),
            )
        )
    notes = _run_notes(result, pgd)
    if marked:
        notes.append(f"{ALL_IMAGES} {pgd} of all networks on {result['attack']['images']} images")
    key = {
        kind: VOTING if kind.endswith(" voting") else KEY[kind]
        for kind in result["summary"]
        if kind in KEY or kind.endswith(" voting")
    }
    key |= {"disagree": "% of images that two networks class differently, mean over all pairs"}
    headers = ("", "networks", "accuracy", pgd, "SRA", *others, "disagree")
    return Table(headers, rows, notes + value_network_lines(result), key)


def _run_notes(result: Mapping[str, Any], pgd: str) -> list[str]:
    """What the figures are of: images, networks, threat."""
    summaries = result["summary"]
    threat = threat_text(result["attack"]["threat"])
    notes = [
        f"% of {result['dataset']} {images_text(result['attack'])}, mean +- standard deviation "
        f"over networks; {threat}",
        f"accuracy on all {result['all_images']} images",
    ]
    if result["sra"] is None:
        notes[-1] += f", {pgd} on {result['attack']['images']}"
        notes.append(f"{pgd} alone flatters: standard robust accuracy (SRA) was not measured")
    else:
        count = max(each["sra"]["count"] for each in summaries.values() if "sra" in each)
        notes[-1] += (
            f", {pgd} and SRA on the same {result['sra']['images']} and the first {count} "
            "networks of a kind"
        )
        notes.append(
            "SRA, standard robust accuracy: what is left by APGD-CE, APGD-T, FAB-T and Square"
        )
    outside = [
        f"{kind} {percent(each['outside_dictionary']['mean'])}"
        for kind, each in summaries.items()
        if "outside_dictionary" in each
    ]
    return notes + ([f"{OUTSIDE}: {', '.join(outside)}"] if outside else [])


def value_network_lines(result: Mapping[str, Any]) -> list[str]:
    """How well the value network knew the samples, a line a measure.

    `value_network` holds by measure: mean_error (absolute), measuring_error (what so few images
    make for, a standard error; None for what is no share of images), ranking_error (the same of one
    sample beside the others) and spread (standard deviation of the samples' measured figures),
    shares in [0,1]; r2 over the samples, at most 1, or None; kendall_tau over the samples and
    training_tau over all networks measured in training, in [-1,1] or None. Samples that differ less
    than the value network errs, or than their images tell, cannot be ranked, whatever tau is.
    """
    lines = []
    for measure, figures in result["value_network"].items():
        off = percent(figures["mean_error"], 1)
        line = f"value network, {measure}: off by {off} points on average"
        if figures["measuring_error"] is not None:
            line += f", where so few images alone make for {percent(figures['measuring_error'], 1)}"
        line += f"; {_ranking(figures, result['summary']['sample']['count'])}"
        if figures["training_tau"] is not None:
            line += f"; over the whole training Kendall's tau {figures['training_tau']:.2f}"
        lines.append(line)
    return lines


def _ranking(figures: Mapping[str, Any], count: int) -> str:
    """Whether the value network's estimates put `count` samples into the right order, in words."""
    tau, r2 = figures["kendall_tau"], figures["r2"]
    if count < FEWEST_RANKED:
        return "so few samples cannot be ranked"
    if figures["spread"] <= max(figures["mean_error"], figures["ranking_error"] or 0.0):
        differ = percent(figures["spread"], 1)
        return f"the samples themselves differ by {differ}, too little to rank"
    if tau is None:
        return "it estimates the same for all samples"
    agrees = f"(Kendall's tau {tau:.2f}, R2 {r2:.2f})"
    if tau >= RANKS_WELL:
        return f"it ranks the samples well {agrees}"
    if tau >= RANKS_ROUGHLY:
        return f"it ranks the samples roughly {agrees}"
    return f"it does not rank the samples at all {agrees}"


def next_commands(commands: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Commands to copy, each below what it does: pairs of a purpose and the command's words."""
    lines = ["next:"]
    for purpose, words in commands:
        lines += [f"  {purpose}", f"    {shlex.join(words)}"]
    return "\n".join(lines)
