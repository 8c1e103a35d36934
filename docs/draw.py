"""Draws the trade-off on the page of concepts from scripts/results/front.json.

python docs/draw.py
"""

import json
from itertools import groupby
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
STYLES = {
    "one generator": ("#3b6ea8", "o", "one generator, asked for each beta", (34, 97.25)),
    "FBF, each its own": ("#b3541e", "D", "FBF, a network for each beta", (8, 98.3)),
    "PGD training, each its own": ("#2e7d32", "s", "PGD training, likewise", (62, 98.6)),
}
"""Kind of network -> its colour, mark, name, and where that stands."""


def front(networks: list[dict]) -> Figure:
    """Mean accuracy over mean SRA of each beta, in %, a line a kind of network."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for kind, (colour, mark, name, place) in STYLES.items():
        own = sorted((each for each in networks if each["kind"] == kind), key=lambda n: n["beta"])
        points = {
            beta: [100 * fmean(each[key] for each in group) for key in ("sra", "accuracy")]
            for beta, group in ((b, list(g)) for b, g in groupby(own, lambda n: n["beta"]))
        }
        axes.plot(*zip(*points.values(), strict=True), marker=mark, color=colour)
        axes.text(*place, name, color=colour)
        for beta in (0, 0.1, 1) if kind == "one generator" else ():
            axes.annotate(f"beta {beta}", points[beta], (-46, -12), textcoords="offset points")
    axes.set_title("MNIST, small-lenet5, linf, epsilon 0.3, 300 attacked images")
    axes.set_xlabel("SRA (% of attacked test images still classified rightly)")
    axes.set_ylabel("accuracy (% of test images)")
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    # The same file each time, in which words are words.
    matplotlib.rcParams.update({"svg.hashsalt": "hypergen", "svg.fonttype": "none"})
    figures = json.loads((DOCS.parent / "scripts/results/front.json").read_text())
    front(figures["networks"]).savefig(DOCS / "pictures/trade_off.svg", metadata={"Date": None})
