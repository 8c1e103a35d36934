"""The page of a run: its samples beside what they are compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hypergen.knob import knob_of
from hypergen.report.page import attacks, estimates, training
from hypergen.report.page.analyses import Found, analysis_blocks
from hypergen.report.page.blocks import Block, Card, Code, Figures, Page, Section
from hypergen.report.page.charts import scatter
from hypergen.report.page.sessions import session_blocks
from hypergen.report.page.settings import settings_table
from hypergen.report.page.trade_off import trade_off_blocks
from hypergen.report.summary import run_table, value_network_lines
from hypergen.report.tables import MISSING, Table, mean_and_std, percent
from hypergen.report.verdict import REFERENCES, differences, reference_of, sentences

WITHIN = {
    "linf": "change every pixel by at most {epsilon:.4g}",
    "l2": "change an image by at most {epsilon:.4g} in length (l2)",
    "l1": "change an image by at most {epsilon:.4g} in sum (l1)",
}
"""What an attacker may do, by the norm; pixels are in [0,1]."""


@dataclass(frozen=True)
class RunFound:
    """What is known of a run.

    Args:
        name: of its folder.
        result: what results.json holds.
        config: what config.json holds, as JSON has it; empty where it is not there.
        metrics: a row a step of training (see `Tracker`).
        command: that makes the same run again.
        spent: name -> what it took, as text.
        attacked: images that were attacked against some samples; missing: why there are none.
        curves: what curve.json of samples at several betas holds, by their folder.
        analyses: what `hypergen analyze` found, if it was asked.
        checked: a row a network that `hypergen evaluate --checks` looked at.
    """

    name: str
    result: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    spent: Mapping[str, str] = field(default_factory=dict)
    attacked: Sequence[attacks.AttackedSample] = ()
    missing: str = ""
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    analyses: Found | None = None
    checked: Sequence[Mapping[str, Any]] = ()


def run_page(found: RunFound) -> Page:
    """The page of a run; each section only where there is something to tell."""
    result = found.result
    verdict, *advice = sentences(result)
    parts: dict[str, Sequence[Block]] = {
        "Samples and what they are compared with": comparison_blocks(result),
        "Accuracy against robustness": scatter_blocks(result),
        "Trade-off": trade_off_blocks(result, found.curves),
        "What each attack left": attacks.attack_blocks(result, found.checked),
        "Attacked images": attacks.gallery_blocks(found.attacked, found.missing),
        "How different the samples are": diversity_blocks(result),
        "Training": training.training_blocks(found.metrics, result["measures"]),
        "What the value network knew": estimates.estimate_blocks(
            result, value_network_lines(result)
        ),
        "Geometry": [] if found.analyses is None else analysis_blocks(found.analyses),
        "How it was made": origin_blocks(found),
    }
    return Page(
        found.name,
        subject(found),
        question(result),
        verdict,
        advice,
        cards(result),
        [Section(title, blocks) for title, blocks in parts.items() if blocks],
        result,
    )


def subject(found: RunFound) -> str:
    """Target, data set and threat in a line."""
    result, config = found.result, found.config.get("config", {})
    threat = result["attack"]["threat"]
    target = f"{config['target']} with {config['activation']} on " if "target" in config else ""
    return f"{target}{result['dataset']}, {threat['norm']}, epsilon {threat['epsilon']:.4g}"


def question(result: Mapping[str, Any]) -> str:
    """What a run asks."""
    threat = result["attack"]["threat"]
    allowed = WITHIN[threat["norm"]].format(epsilon=threat["epsilon"])
    reference = reference_of(result)
    beside = REFERENCES[reference]
    if reference != "start":
        beside = f"networks trained one by one by {beside.removesuffix(' training')}"
    return (
        f"Are networks drawn from one generator as accurate and as robust as {beside}, on "
        f"{result['dataset']} images where an attacker may {allowed}?"
    )


def cards(result: Mapping[str, Any]) -> list[Card]:
    """Accuracy, robustness and diversity of the samples, beside the reference's."""
    summary = result["summary"]
    reference = reference_of(result)
    names = {"sra": "SRA"} if result["sra"] else {"pgd": f"PGD-{result['attack']['steps']}"}
    found = []
    for key, name in {"accuracy": "accuracy", **names}.items():
        mine, theirs = (mean_and_std(summary[kind].get(key)) for kind in ("sample", reference))
        beside = "" if theirs == MISSING else f"{reference} {theirs} %"
        found.append(Card(f"{name} of samples", f"{mine} %", beside))
    apart = result["disagreement"]
    if "sample" in apart:
        beside = f"{reference} {percent(apart[reference])} %" if reference in apart else ""
        found.append(Card("two samples disagree on", f"{percent(apart['sample'])} %", beside))
    return found


def comparison_blocks(result: Mapping[str, Any]) -> list[Block]:
    """The run's table, and by how much samples differ from each other kind."""
    table = run_table(result)
    estimated = {*value_network_lines(result)}  # which have a section of their own
    notes = [note for note in table.notes if note not in estimated]
    own = Table(("kind", *table.headers[1:]), table.rows, notes, table.key)
    return [
        Figures("% of images, mean and standard deviation over the networks of a kind", own),
        *difference_blocks(result, table.key),
    ]


def difference_blocks(result: Mapping[str, Any], key: Mapping[str, str]) -> list[Block]:
    """By how much the samples' mean lies above that of each other kind, with its interval."""
    rows, headers = [], []
    figure = "sra" if result["sra"] else "pgd"
    for kind, summary in result["summary"].items():
        if kind == "sample" or kind not in result["image_errors"][figure] or figure not in summary:
            continue  # those that vote are of the others and not beside them
        found = differences(result, kind)
        headers = [each.figure for each in found]
        rows.append((kind, *(_signed(each.mean, each.low, each.high) for each in found)))
    if not rows:
        return []
    notes = [
        "An interval that contains 0 is no difference. It allows for the networks that happened to "
        "be made and for the images that happened to be in the test set."
    ]
    table = Table(("samples less", *headers), rows, notes, {row[0]: key[row[0]] for row in rows})
    return [Figures("Points by which samples lie above others, with 95 % intervals", table)]


def _signed(mean: float, low: float, high: float) -> str:
    mean_text, low_text, high_text = (f"{100 * share:+.1f}" for share in (mean, low, high))
    return f"{mean_text} ({low_text} to {high_text})"


def scatter_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Accuracy against SRA and PGD, a point a network."""
    pgd = f"PGD-{result['attack']['steps']}"
    keys: dict[str, tuple[str, str | None]] = {pgd: ("pgd", "interval")}
    if result["sra"]:
        keys = {"SRA": ("sra", "sra_interval"), **keys}
    caption = "A point a network; bars are the 95 % intervals that so few attacked images leave"
    return [scatter(caption, result["networks"], keys, networks_table(result))]


def networks_table(result: Mapping[str, Any]) -> Table:
    """A row a network, of all that was measured of it."""
    others = [name for name in result["measures"] if name not in ("accuracy", "robustness")]
    heads = {"accuracy": "accuracy", "pgd": f"PGD-{result['attack']['steps']}", "sra": "SRA"}
    heads |= {name: name for name in others}
    knob = next(filter(None, map(knob_of, result["networks"])), "beta")
    rows = []
    for row in result["networks"]:
        cells = [percent(row.get(name)) for name in heads]
        asked = f"{row[knob]:.4g}" if knob in row else MISSING
        name = PurePosixPath(row["file"]).stem if "file" in row else row["kind"]
        rows.append((name, asked, *cells, interval_text(row.get("interval"))))
    interval = f"{heads['pgd']} interval"
    return Table(("network", knob, *heads.values(), interval), rows)


def interval_text(ends: Sequence[float] | None) -> str:
    """ "91.5 to 94.6" """
    return MISSING if ends is None else f"{percent(ends[0], 1)} to {percent(ends[1], 1)}"


def diversity_blocks(result: Mapping[str, Any]) -> list[Block]:
    """How often networks of a kind disagree, and how far they err on the same images."""
    overlap = result.get("error_overlap", {})
    rows = [
        (kind, percent(share), percent(overlap.get(kind), 1))
        for kind, share in result["disagreement"].items()
    ]
    if not rows:
        return []
    known = run_table(result).key
    key = {kind: known[kind] for kind, *_ in rows if kind in known}
    table = Table(("kind", "disagree", "error overlap"), rows, (), key)
    return [Figures("% of images, mean over all pairs of networks of a kind", table)]


def origin_blocks(found: RunFound) -> list[Block]:
    """Command, seeds, versions, what it took, and all settings."""
    result = found.result
    blocks: list[Block] = []
    if found.command:
        blocks.append(Code("The same run again", found.command))
    facts = {
        "hypergen": result.get("version", MISSING),
        "seed of training": str(result.get("seed", MISSING)),
        "attack": result["attack"]["name"],
        "seed of attacks": str(result["attack"].get("seed", MISSING)),
        **found.spent,
    }
    blocks.append(Figures("Versions, seeds and expense", Table(("what", ""), [*facts.items()])))
    blocks += session_blocks(result)
    if found.config:
        blocks.append(Figures("All settings", settings_table(found.config), folded=True))
    return blocks
