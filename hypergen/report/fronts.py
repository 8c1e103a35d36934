"""Tables of trade-offs: of a sweep, of one generator over its range, of a search."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.knob import asked_text, knob_in
from hypergen.report.tables import MISSING, Table, percent, threat_text


def curve_table(result: Mapping[str, Any]) -> Table:
    """What networks of several betas, or radii, have, a row each (see `trade_off.curve`)."""
    knob = knob_in(result["curve"])
    names = [name for name in ("accuracy", "pgd", "sra") if name in result["curve"][0]]
    rows = [
        (f"{point[knob]:.4g}", str(point["count"]), *(_with_interval(point[n]) for n in names))
        for point in result["curve"]
    ]
    attack = result["attack"]
    notes = [
        f"% of images, mean and where the next network of that {knob} lies in 19 of 20 cases",
        f"{result['dataset']} test images; accuracy on all",
    ]
    if attack:
        notes[1] += f", attacks on the first {attack['images']}; {threat_text(attack['threat'])}"
        notes.append(
            f"hypervolume {result['hypervolume']:.4f}: the share of all that is better than "
            "guessing in accuracy and in SRA which these means reach"
        )
    else:
        notes.append(f"to have the best N of each {knob} attacked: --keep N")
    return Table((knob, "networks", *names), rows, notes)


def _with_interval(figure: Mapping[str, Any]) -> str:
    """ "98.8 (98.2 to 99.4)"; "98.8" where there is no interval."""
    mean = percent(figure["mean"], 1)
    if figure["interval"] is None:
        return mean
    low, high = (percent(min(max(end, 0.0), 1.0), 1) for end in figure["interval"])
    return f"{mean} ({low} to {high})"


def front_table(result: Mapping[str, Any]) -> Table:
    """The trials of a sweep that no other beats in all measures at once.

    result: `trials` (each of a `kind`, "front" or "dominated", with `run`, its measures by name
    on validation images, the same on test images under `test`, or None there, and the settings
    varied), `measures` and `varied` (the names of both), `dataset`, `images` (how many there
    are, by split), `report`, the sizes of a trial's report: samples, images, sra_samples,
    sra_images, and `pruned`, the trials that were, with the `rung` that each had reached.
    """
    measures, varied = result["measures"], result["varied"]
    front = [row for row in result["trials"] if row["kind"] == "front"]
    rows = [
        (
            row["run"],
            *(percent((row["test"] or {}).get(name)) for name in measures),
            *(percent(row[name]) for name in measures),
            *(f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n]) for n in varied),
        )
        for row in front
    ]
    pruned = result["pruned"]
    count = len(result["trials"]) + len(pruned)
    notes = [
        f"the front of {count} trials, % of {result['dataset']} images: chosen by validation "
        "images (val), then judged on test images",
        "; ".join(judged(measures, result["report"], result["images"])),
    ]
    if pruned:
        rungs = (row["rung"] for row in pruned)
        counts = Counter(
            "an unknown part" if rung is None else f"{percent(rung, 0)} %" for rung in rungs
        )
        after = ", ".join(f"{count} after {share}" for share, count in sorted(counts.items()))
        notes.append(f"{len(pruned)} of them were pruned: {after} of their steps")
    volume = result["hypervolume"]
    if volume["test"] is not None:
        notes.append(
            f"hypervolume {volume['test']:.4f} on test images, {volume['history'][-1]:.4f} on "
            "validation images: the share of all that is better than guessing which it reaches"
        )
    if not all(row["test"] for row in front):
        notes.append(f"{MISSING} not judged on test images by this sweep")
    headers = ("run", *measures, *(f"{name} (val)" for name in measures), *varied)
    return Table(headers, rows, notes)


def judged(
    measures: Sequence[str], sizes: Mapping[str, int], there: Mapping[str, int]
) -> list[str]:
    """On how much each measure of a trial was taken.

    sizes: asked for by its report; there: how many images there are, by split.
    """

    def images(asked: int) -> str:
        used = {split: min(asked, count) for split, count in there.items()}
        if len(set(used.values())) == 1:
            return f"on {min(used.values())} images"
        return "on " + " and ".join(f"{count} {split}" for split, count in used.items()) + " images"

    samples, on_images = f"{sizes['samples']} samples", images(sizes["images"])
    lines = [f"accuracy: {samples} on all"]
    if "robustness" in measures and sizes["sra_samples"]:
        few = min(sizes["sra_samples"], sizes["samples"])
        judged = f"standard robust accuracy, {few} samples {images(sizes['sra_images'])}"
        lines.append(f"robustness: {judged}")
    elif "robustness" in measures:
        lines.append(f"robustness: PGD-50 alone, which flatters, {samples} {on_images}")
    others = [name for name in measures if name not in ("accuracy", "robustness")]
    return lines + ([f"{', '.join(others)}: {samples} {on_images}"] if others else [])


def search_table(result: Mapping[str, Any]) -> Table:
    """What `hypergen search` found: a row a network, best in accuracy first.

    result: as `experiments.search.search` returns it.
    """
    names, options = result["figures"], result["search"]
    rows = sorted(result["networks"], key=lambda row: row["accuracy"], reverse=True)
    lines = [
        (
            row["file"],
            _preference(row),
            *(percent(row[name], 1) for name in names),
            *(percent(row["val"][name], 1) for name in names),
        )
        for row in rows
    ]
    falls = [
        f"{name} {100 * statistics.fmean(row['val'][name] - row[name] for row in rows):+.1f}"
        for name in names
    ]
    volumes = result["hypervolume"]
    threat, images = threat_text(result["attack"]["threat"]), result["attack"]["images"]
    notes = [
        f"% of {result['dataset']} images; {threat}, {result['attack']['name']}; accuracy on all, "
        f"the rest on the first {images} of test and of validation (val)",
        f"chosen on validation images: the front of {len(result['measured'])} networks, which the "
        f"value network thought best of {options['candidates']} ({options['method']})",
        f"validation less test images, points: {', '.join(falls)}",
        f"hypervolume {volumes['test']:.4f} on test images, {volumes['val']:.4f} on validation "
        "images: the share of all that is better than guessing which these networks reach",
    ]
    return Table(("network", "for", *names, *(f"{name} (val)" for name in names)), lines, notes)


def _preference(row: Mapping[str, Any]) -> str:
    """What the generator was asked for: "beta 0.25", or the weights of its measures."""
    if "preference" not in row:
        return asked_text(row)
    return ", ".join(f"{weight:.2f}" for weight in row["preference"].values())
