"""The page of a board: a table for each data set and threat, and the command of every row."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from hypergen.report.tables import in_markdown

HEAD = """# Small networks: how robust, at what cost

Made from board.json, a row by every `hypergen board add FILE`; not to be written by hand.

| column | what it says |
|---|---|
| weights | how many numbers the network has; 300,000 at most |
| accuracy | % of all test images |
| SRA | standard robust accuracy: % of the first test images, as many as said, on which APGD-CE, \
APGD-T, FAB-T and Square all fail |
| 95 % | what so few images leave open (Wilson's interval) |
| gradients | millions of images' gradients that the training took, its attacks included |
| seconds | what the training took: on a CPU of one core, on a GPU by the clock |

Gradients and seconds of a sample are those of its whole generator, which gives any number of
networks.
`-` stands for what nobody wrote down. Every command makes the row's network in the folder OUT. On
another kind of CPU or GPU it comes out a little differently, for numbers are rounded differently.
"""
COLUMNS = (
    "network",
    "weights",
    "accuracy",
    "SRA",
    "95 %",
    "images",
    "gradients",
    "seconds",
    "recipe",
)


def board_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page in Markdown of the rows of a board, in their order."""
    parts = [HEAD]
    for (dataset, norm, epsilon), group in groupby(
        rows, lambda row: (row["dataset"], row["norm"], row["epsilon"])
    ):
        own = list(group)
        parts.append(f"## {in_markdown(dataset)}, {in_markdown(norm)}, epsilon {epsilon:.4g}\n")
        table = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, own)]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n")
        parts += [_making(row) for row in own]
    return "\n".join(parts)


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = (100 * end for end in row["interval"])
    gradients, seconds = row["gradient_evaluations"], row["seconds"]
    on = f" ({row['trained_on']})" if row["trained_on"] else ""
    return [
        in_markdown(f"{row['name']}: {row['target']}, {row['activation']}"),
        f"{row['weights']:,}",
        f"{100 * row['accuracy']:.2f}",
        f"{100 * row['sra']:.1f}",
        f"{low:.1f} to {high:.1f}",
        f"{row['images']:,}",
        "-" if gradients is None else f"{gradients / 1e6:.3g}",
        "-" if seconds is None else in_markdown(f"{seconds:.0f}{on}"),
        in_markdown(row["recipe"] or "-"),
    ]


def _making(row: Mapping[str, Any]) -> str:
    """How a row's network is made again, in a paragraph."""
    place = f", in OUT/{in_markdown(row['file'])}" if row["file"] else ""
    said = f"{in_markdown(row['name'])}{place} (figures: {in_markdown(row['source'])}):\n\n"
    return said + (f"    {row['command']}\n" if row["command"] else "    unknown\n")
