"""What attacks did: image by image, and what each attack of a suite left."""

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath
from typing import Any

import numpy
from PIL import Image

from hypergen.report.page.blocks import Attacked, Block, Chart, Figures, Gallery, Paragraphs
from hypergen.report.page.charts import axis, hundred, mark
from hypergen.report.palette import colour
from hypergen.report.pixels import magnification, magnified, pixels
from hypergen.report.tables import MISSING, Table, images_text, percent, threat_text

PIXELS = 96
"""Least height of an image on the page; small ones are drawn with larger pixels."""


@dataclass(frozen=True)
class AttackedSample:
    """Images before and after an attack against one network.

    Args:
        name: of the network.
        attack: as its `describe` has it, with `images`, of how many these were chosen.
        clean, attacked: float [N,C,H,W] in [0,1].
        labels: the true classes; before, after: the class that the network puts each image into and
            how sure it is of that, in [0,1].
        classes: the names of all classes.
    """

    name: str
    attack: Mapping[str, Any]
    clean: numpy.ndarray
    attacked: numpy.ndarray
    labels: Sequence[int]
    before: Sequence[tuple[int, float]]
    after: Sequence[tuple[int, float]]
    classes: Sequence[str]


def gallery_blocks(samples: Sequence[AttackedSample], missing: str = "") -> list[Block]:
    """Each image clean, its change magnified, attacked, with what the network makes of it.

    missing: why there are none.
    """
    if not samples:
        return [Paragraphs([f"Not shown here: {missing}."])] if missing else []
    attack = samples[0].attack
    times = magnification(numpy.concatenate([each.attacked - each.clean for each in samples]))
    blocks: list[Block] = [
        Paragraphs(
            [
                f"Of the first {attack['images']} {images_text(attack)}, each as it is, what "
                f"{attack['name']} ({threat_text(attack['threat'])}) added to it, drawn "
                f"{times:.3g} times as large (grey is no change), and both together. Those that "
                "fooled the network come first. Percentages are how sure it is of the class."
            ]
        )
    ]
    for sample in samples:
        examples = [_attacked(sample, index, times) for index in range(len(sample.labels))]
        blocks.append(Gallery(sample.name, examples))
    return blocks


def _attacked(sample: AttackedSample, index: int, times: float) -> Attacked:
    clean, attacked = sample.clean[index], sample.attacked[index]
    names = sample.classes
    before, after = (
        f"{names[number]} ({percent(sure, 0)} %)"
        for number, sure in (sample.before[index], sample.after[index])
    )
    return Attacked(
        png(clean),
        png(magnified(attacked - clean, times)),
        png(attacked),
        names[sample.labels[index]],
        before,
        after,
        sample.after[index][0] != sample.labels[index],
    )


def png(image: numpy.ndarray) -> bytes:
    """An image [C,H,W] in [0,1] as PNG, at least `PIXELS` high."""
    drawn = Image.fromarray(pixels(image))
    times = max(1, -(-PIXELS // drawn.height))
    drawn = drawn.resize((drawn.width * times, drawn.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    drawn.save(file, "png", optimize=True)
    return file.getvalue()


def attack_blocks(
    result: Mapping[str, Any], checked: Sequence[Mapping[str, Any]] = ()
) -> list[Block]:
    """What each attack of a suite left, and the verdicts of checks, where there are some.

    checked: the networks of an evaluation with checks, a row each.
    """
    rows = [row for row in result["networks"] if row.get("after")]
    blocks: list[Block] = [] if not rows else [after_chart(result, rows)]
    if checked:
        cells = [
            (PurePath(row["file"]).name, row["verdict"], "; ".join(row["reasons"]) or MISSING)
            for row in checked
        ]
        table = Table(("network", "verdict", "reasons"), cells)
        blocks.append(Figures("Signs that a figure is not real, such as masked gradients", table))
    return blocks


def after_chart(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Mean share of images left after each attack and all before it, a line a kind."""
    names = [*rows[0]["after"]]
    kinds = [*dict.fromkeys(row["kind"] for row in rows)]
    means = {
        kind: [
            statistics.fmean(row["after"][name] for row in rows if row["kind"] == kind)
            for name in names
        ]
        for kind in kinds
    }
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(kind),
            "x": names,
            "y": hundred(shares),
            "hovertemplate": "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
            "marker": mark(kind, kinds) | {"size": 8},
            "line": {"color": colour(kind, kinds)},
        }
        for kind, shares in means.items()
    ]
    layout = {
        "xaxis": axis("attack, after all to its left"),
        "yaxis": axis("left (% of images)", rangemode="tozero"),
    }
    count = max(sum(row["kind"] == kind for row in rows) for kind in kinds)
    images = (result.get("sra") or result["attack"])["images"]
    over = f", mean over up to {count} networks of a kind" if count > 1 else ""
    caption = (
        f"Of {images} {images_text(result['attack'])}, what is right after each attack of the "
        f"suite{over}"
    )
    cells = [(kind, *(percent(share, 1) for share in shares)) for kind, shares in means.items()]
    return Chart(caption, traces, layout, Table(("kind", *names), cells))
