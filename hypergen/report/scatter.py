"""Networks as points: accuracy against another figure."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypergen.report.intervals import interval
from hypergen.report.labels import Label, along, boxes, place
from hypergen.report.palette import BLACK, VOTES, colour, marker
from hypergen.report.plots import heading, plot_area

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
SAID = {"robustness": "robustness", "sra": "SRA", "pgd": "PGD"}
"""What shares of attacked images are called."""
MANY_POINTS = 8
"""Networks of a kind from which on their points are drawn small."""
SMALL, LARGE = 4, 7
"""Widths of points, in points (1/72 inch)."""
CLOSE, FAR = 0.1, 0.3
"""Networks at most so far below the best in both figures are shown once more, magnified, where
others are so far from these."""
BARS = "Bars: the 95 % interval of one network of each kind, as the number of images leaves it."


def scatter(
    networks: Sequence[Row],
    key: str,
    title: str,
    said: str | None = None,
    images: Mapping[str, int] | None = None,
) -> "Figure":
    """Accuracy against another figure, one point a network, one colour and name a `kind`.

    Where some networks are far from the best, these are magnified beside the whole.

    Args:
        networks: rows with `kind`, `accuracy` and most of them `key`, shares in [0,1]; those
            without are left out.
        key: the figure of the horizontal axis, such as "sra", or any measure.
        title: says of what data, target, threat, attack and images.
        said: what that figure of attacked images is called; by default as in `SAID`.
        images: how many images `accuracy` and `key` were measured on, by name; for intervals.
    """
    shown = [row for row in networks if key in row]
    best, images, name = best_of(shown, key), images or {}, said or SAID.get(key, key)
    notes = [BARS] if images and shown else []
    left_out = _left_out(networks, key)
    if left_out:
        notes.append(f"Not shown, for lack of {name}: {', '.join(left_out)}.")
    figure, plots = plot_area(title, 2 if best else 1, note="\n".join(notes))
    attacked = "attacked " if said or key in SAID else ""
    panels = [_Panel(*each, key, shown) for each in zip(plots, (shown, best), strict=False)]
    for panel in panels:
        panel.draw_points()
        if images:
            panel.draw_bars(images)
        panel.axes.set_xlabel(_axis(name, attacked, images.get(key)))
        panel.axes.margins(0.1)
        panel.axes.autoscale_view()
    plots[0].set_ylabel(_axis("accuracy", "", images.get("accuracy")))
    if best:
        panels[0].frame(panels[1])
    for panel in panels:
        hidden = (boxes(panel.axes, own, width) for width, own in panel.covered.items())
        place(panel.axes, panel.labels, [box for own in hidden for box in own])
    return figure


def run_scatter(result: Mapping[str, Any]) -> "Figure":
    """The networks of a run, its samples and what they are compared with: accuracy against SRA.

    result: of results.json. Where SRA was not measured PGD takes its place, and the title says so.
    """
    key = "sra" if result["sra"] else "pgd"
    attack = result["attack"] | (result["sra"] or {})
    text = "Samples of a generator and what they are compared with, a point a network"
    if key == "pgd":
        text += "\nPGD alone, which flatters: standard robust accuracy (SRA) was not measured"
    title = heading(text, {**result, "attack": attack})
    images = {"accuracy": result["all_images"], key: attack["images"]}
    return scatter(result["networks"], key, title, images=images)


def _left_out(networks: Sequence[Row], key: str) -> list[str]:
    """Of which kinds of networks, and of how many each, a figure was not measured."""
    whole = Counter(row["kind"] for row in networks)
    without = Counter(row["kind"] for row in networks if key not in row)
    return [
        kind if count == whole[kind] else f"{count} of {whole[kind]} {kind}"
        for kind, count in without.items()
    ]


def best_of(networks: Sequence[Row], key: str) -> list[Row]:
    """Those within `CLOSE` of the best figure and, of these, of the best accuracy.

    None unless some network is worse by `FAR` in both than another, beside which nothing could be
    told apart, nor where these are all of one kind.
    """
    pairs = ((row, other) for row in networks for other in networks)
    names = key, "accuracy"
    if not any(all(row[n] < other[n] - FAR for n in names) for row, other in pairs):
        return []
    best = networks
    for name in names:
        best = [row for row in best if row[name] >= max(each[name] for each in best) - CLOSE]
    kinds = {row["kind"] for row in best}
    return [*best] if len(kinds) > 1 else []


def _axis(name: str, attacked: str, count: int | None) -> str:
    """ "SRA (% of 100 attacked images still classified correctly)"."""
    number = "" if count is None else f"{count} "
    still = " still classified correctly" if attacked else " classified correctly"
    return f"{name} (% of {number}{attacked}images{still})"


class _Panel:
    """Points on one pair of axes.

    Args:
        rows: the networks shown here.
        everyone: those of the whole picture, among which colours are chosen.

    Attributes:
        groups: the networks by kind.
        labels: of the kinds, to be placed.
        covered: places in percent that no label may hide, by their widths.
    """

    def __init__(self, axes: "Axes", rows: Sequence[Row], key: str, everyone: Sequence[Row]):
        self.axes, self.rows, self.key = axes, rows, key
        self.kinds = [*dict.fromkeys(row["kind"] for row in everyone)]
        self.groups = self._grouped(rows)
        self.labels = self._labels(rows)
        self.covered: dict[int, list[tuple[float, float]]] = {SMALL: [], LARGE: []}

    def _grouped(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        groups = {kind: [row for row in rows if row["kind"] == kind] for kind in self.kinds}
        return {kind: own for kind, own in groups.items() if own}

    def _labels(self, rows: Sequence[Row]) -> list[Label]:
        """A label for each kind of these networks, at a typical one."""
        return [
            Label(kind, self._point(self._typical(own)), colour(kind, self.kinds))
            for kind, own in self._grouped(rows).items()
        ]

    def _point(self, row: Row) -> tuple[float, float]:
        return 100 * row[self.key], 100 * row["accuracy"]

    def _typical(self, rows: Sequence[Row]) -> Row:
        """The network nearest to the mean."""
        names = self.key, "accuracy"
        means = {name: statistics.fmean(row[name] for row in rows) for name in names}
        return min(rows, key=lambda row: sum((row[n] - means[n]) ** 2 for n in names))

    def draw_points(self) -> None:
        """Draws a point a network."""
        for kind, rows in self.groups.items():
            width = SMALL if len(rows) >= MANY_POINTS else LARGE
            shape, points = marker(kind, self.kinds), [*map(self._point, rows)]
            self.covered[width] += points
            self.axes.scatter(
                *zip(*points, strict=True),
                s=(1.5 * width if shape == VOTES else width) ** 2,
                color=colour(kind, self.kinds),
                marker=shape,
                alpha=0.8,
                linewidths=0,
            )

    def draw_bars(self, images: Mapping[str, int]) -> None:
        """The interval of a typical network of each kind, as far as numbers of images are known."""
        for kind, rows in self.groups.items():
            row = self._typical(rows)
            x, y = self._point(row)
            for name, count in images.items():
                low, high = (100 * end for end in interval(row[name], count))
                ends = [(x, low), (x, high)] if name == "accuracy" else [(low, y), (high, y)]
                hue = colour(kind, self.kinds)
                self.axes.plot(*zip(*ends, strict=True), color=hue, linewidth=1, alpha=0.6)
                self.covered[SMALL] += along(ends)

    def frame(self, magnified: "_Panel") -> None:
        """Marks what another panel magnifies, and leaves the names of what is in it to that."""
        (left, right), (low, high) = magnified.axes.get_xlim(), magnified.axes.get_ylim()
        corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
        self.axes.plot(*zip(*corners, strict=True), color=BLACK, linewidth=0.8)
        self.covered[SMALL] += along(corners)
        magnified.axes.set_title("magnified", fontsize="small")
        self.labels = self._labels([row for row in self.rows if row not in magnified.rows])
        self.labels.append(Label("magnified beside", ((left + right) / 2, low), BLACK))
