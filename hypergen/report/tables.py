"""The tables that commands print, all laid out by one `Table`.

Functions take results as a JSON file holds them: shares in [0,1], shown in percent.
"""

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "-"
"""The cell of a figure that was not measured."""
OUTSIDE = "outside: % of inputs beyond the dictionary of their KAF, in the layer that has most"
SPLITS = {"test": "test", "val": "validation"}
"""What the images of a split are called."""
NAME_LENGTH = 40
"""Characters of a file's path that a table shows."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under headers, with notes and explained words below; `str` gives plain text.

    Args:
        headers: of the columns. The first column names what a row is about.
        rows: cells, as many in each row as there are headers.
        notes: sentences below the table, a line each.
        key: what words in the first column mean.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    key: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Names stand to the left of their column, figures to the right of theirs."""
        lines = [self.headers, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])],
            )
            for first, *others in lines
        ]
        longest = max(map(len, self.key), default=0)
        explained = [f"  {word:<{longest}}  {meaning}" for word, meaning in self.key.items()]
        return "\n".join([*text, *self.notes, *explained])


def percent(share: float | None, decimals: int = 2) -> str:
    """A share in [0,1] in percent, without the sign; `MISSING` for None."""
    return MISSING if share is None else f"{100 * share:.{decimals}f}"


def mean_and_std(figure: Mapping[str, Any] | None) -> str:
    """ "98.8 +- 0.2" for the summary of several networks' shares, "98.8" for that of one."""
    if figure is None:
        return MISSING
    mean = percent(figure["mean"], 1)
    return mean if figure["count"] == 1 else f"{mean} +- {percent(figure['std'], 1)}"


def short(file: str) -> str:
    """The end of a path, `NAME_LENGTH` characters at most."""
    return file if len(file) <= NAME_LENGTH else "..." + file[3 - NAME_LENGTH :]


def threat_text(threat: Mapping[str, Any]) -> str:
    """Norm and radius, as in "linf, epsilon 0.1"."""
    return f"{threat['norm']}, epsilon {threat['epsilon']:.4g}"


def images_text(attack: Mapping[str, Any]) -> str:
    """ "test images", or "validation images" where the description of an attack says so."""
    return f"{SPLITS[attack.get('split', 'test')]} images"


def caption(result: Mapping[str, Any]) -> str:
    """Data set, targets if known, threat, attack and number of attacked images."""
    attack = result["attack"]
    threat = threat_text(attack["threat"])
    images = f"{attack['images']} {images_text(attack)}"
    name = {"standard": "standard attacks"}.get(attack["name"], attack["name"])
    return ", ".join([result["dataset"], *result.get("targets", ()), threat, f"{name} on {images}"])


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """What `hypergen evaluate` found: a row a network, their mean, and networks that act as one."""
    attack = result["attack"]
    # PGD that is judged by stands alone: beside another attack there is its description.
    strongest = {"standard": "sra"}.get(attack["name"], "robustness" if "pgd" in attack else None)
    others = [other["threat"]["norm"] for other in attack.get("others", ())]
    norm = f" {attack['threat']['norm']}" if others else ""
    heads = {"accuracy": "accuracy"} | {name: name + norm for name in ("pgd", strongest) if name}
    heads |= {other: f"{strongest or 'pgd'} {other}" for other in others}
    heads |= {"union": "union"} if others else {}
    if "outside_dictionary" in result["summary"]:
        heads["outside_dictionary"] = "outside"
    heads |= {name: name for name in result.get("measures", ())}

    lines: list[tuple[str, Mapping[str, float]]] = [
        (short(row["file"]), row | row.get("norms", {})) for row in result["networks"]
    ]
    if len(lines) > 1:
        columns = {name: [row[name] for _, row in lines if name in row] for name in heads}
        means = {name: statistics.fmean(column) for name, column in columns.items() if column}
        lines.append(("mean", means))
    for name, row in result.get("ensemble", {}).items():
        # A network drawn for every query is attacked by a PGD of its own, and by nothing else.
        only_pgd = {"accuracy": row["accuracy"], "pgd": row["robustness"]}
        shown = row | row.get("norms", {}) if "pgd" in row else only_pgd
        lines.append((name.replace("_", " "), shown))
    return Table(
        ("network", *heads.values()),
        [(label, *(percent(row.get(name)) for name in heads)) for label, row in lines],
        _evaluation_notes(result, heads, strongest),
    )


def _evaluation_notes(
    result: Mapping[str, Any], heads: Mapping[str, str], strongest: str | None
) -> list[str]:
    """Verdicts of the sanity checks, what was measured how, and what it leaves open."""
    attack, networks, summary = result["attack"], result["networks"], result["summary"]
    notes = []
    for row in networks:
        if "verdict" in row:
            reasons = "; ".join(row["reasons"]) or f"all {len(row['checks'])} checks"
            notes.append(f"{short(row['file'])}: {row['verdict']} ({reasons})")
    others = [other["threat"] for other in attack.get("others", [])]
    threats = [threat_text(threat) for threat in (attack["threat"], *others)]
    beside = f", beside {attack['pgd']['name']}" if "pgd" in attack else ""
    notes.append(
        f"% of images; {result['dataset']} test, accuracy on all, attacks on the first "
        f"{attack['images']}; {threats[0]}, {attack['name']}{beside}"
    )
    if result.get("measures"):
        pgd = attack.get("pgd", attack)["name"]
        notes.append(
            f"{', '.join(result['measures'])}: of the same {attack['images']} images; where a "
            f"measure names no attack of its own, it is {pgd}"
        )
    left_open = max(abs(end - row["robustness"]) for row in networks for end in row["interval"])
    notes.append(
        f"{attack['images']} images leave each network's {heads[strongest or 'pgd']} open by up to "
        f"{percent(left_open, 1)} points (95 %)"
    )
    if "outside_dictionary" in heads:
        notes.append(OUTSIDE)
    if others:
        notes.append(f"union: robust in every norm at once: {', '.join(threats)}")
    if strongest is None:
        notes.append('PGD alone flatters: the attack "standard" gives standard robust accuracy')
    elif summary[strongest]["mean"] > summary["pgd"]["mean"]:
        notes.append(f"{attack['name']} is weaker here than PGD, which itself flatters")
    return notes


def transfer_table(result: Mapping[str, Any]) -> Table:
    """What `hypergen transfer` found: what fools each network, and what its examples do to others.

    `fooling[i][j]` is the share of images that fool network j when they were made against i.
    """
    fooling = result["fooling"]
    count = len(fooling)
    figures = []
    for i, row in enumerate(result["networks"]):
        others = [j for j in range(count) if j != i]
        figures.append(
            (
                row["accuracy"],
                fooling[i][i],
                statistics.fmean(fooling[i][j] for j in others),
                statistics.fmean(fooling[j][i] for j in others),
            )
        )
    figures.append(tuple(map(statistics.fmean, zip(*figures, strict=True))))
    names = [short(row["file"]) for row in result["networks"]] + ["mean"]
    return Table(
        ("network", "accuracy", "by own", "to others", "by others"),
        [(name, *map(percent, row)) for name, row in zip(names, figures, strict=True)],
        [
            f"% of the first {result['attack']['images']} images, right when clean and fooled by "
            "(or to) examples made against a network",
            caption(result),
        ],
    )


def estimates_table(networks: Sequence[Mapping[str, Any]], dataset: str) -> Table:
    """Networks that were drawn and not attacked: accuracy is measured, the rest is estimated."""
    measures = [name for name in networks[0]["estimated"] if name != "accuracy"]
    return Table(
        ("network", "accuracy", *(f"{name}, estimated" for name in measures)),
        [
            (
                short(row["file"]),
                percent(row["accuracy"]),
                *(percent(row["estimated"][name]) for name in measures),
            )
            for row in networks
        ],
        [
            f"% of {dataset} test images; estimated by the value network on validation images",
            "to have the best N measured: sample --keep N",
        ],
    )


def in_markdown(text: str) -> str:
    """A text that Markdown shows as it is, also in a table."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("`", "\\`")
