"""What the page says of networks and images, as HTML; names of a user's are escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hypergen.experiments.explorer import Chosen, Explorer

ALL_CLASSES, FEW_CLASSES = 10, 5
"""Up to so many classes all are shown, in their order; else the few that are likeliest."""
TITLES = {"accuracy": "accuracy", "robustness": "robust accuracy", "sra": "robust accuracy (SRA)"}
"""What figures are called on the page, where not by their own name."""


def title(name: str) -> str:
    """What a measure is called on the page."""
    return TITLES.get(name, name)


def bars(probabilities: Tensor, names: Sequence[str], label: int | None) -> str:
    """The probabilities [K] of classes as bars; the true class, where there is one, is marked."""
    order = range(len(names))
    if len(names) > ALL_CLASSES:
        order = probabilities.topk(FEW_CLASSES).indices.tolist()
    best = int(probabilities.argmax())
    rows = []
    for index in order:
        share = float(probabilities[index])
        kind = " best" if index == best else ""
        mark = " (true)" if index == label else ""
        rows.append(
            f'<div class="bar{kind}"><span class="name">{html.escape(names[index])}{mark}</span>'
            f"{_track(share)}<span class='share'>{100 * share:.0f} %</span></div>"
        )
    return "".join(rows)


def estimates(chosen: Chosen, explorer: Explorer) -> str:
    """Every measure as V estimates it, and how far off it may be."""
    rows = []
    values = zip(explorer.measures, chosen.estimates.tolist(), chosen.spread.tolist(), strict=True)
    for name, value, spread in values:
        error = explorer.errors.get(name)
        doubt = "error not known" if error is None else f"± {100 * error:.1f}"
        if explorer.sampler.config.value_network.members > 1:
            doubt += f", members ± {100 * spread:.1f}"
        rows.append(
            f'<div class="figure"><span class="name">{html.escape(title(name))}</span>'
            f'{_track(value, error or 0)}<span class="share"><b>{100 * value:.1f} %</b> '
            f'<span class="doubt">{doubt}</span></span></div>'
        )
    return "".join(rows)


def measured(figures: Mapping[str, Any]) -> str:
    """What was measured, each with the interval that so few images leave open."""
    rows = []
    for name, value in figures.items():
        if name in ("intervals", "attack"):
            continue
        span = figures["intervals"].get(name)
        between = f"{100 * span[0]:.1f} to {100 * span[1]:.1f} %" if span else ""
        low, high = span or (value, value)
        rows.append(
            f'<div class="figure"><span class="name">{html.escape(title(name))}</span>'
            f'{_track(value, (high - low) / 2, (low + high) / 2)}<span class="share">'
            f'<b>{100 * value:.1f} %</b> <span class="doubt">{between}</span></span></div>'
        )
    return "".join(rows)


def _track(share: float, reach: float = 0.0, middle: float | None = None) -> str:
    """A bar as long as a share in [0,1], and a line from `middle` so far to both sides."""
    middle = share if middle is None else middle
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    line = ""
    if reach:
        line = f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
    return f'<span class="track"><b style="width:{100 * share:.1f}%"></b>{line}</span>'
