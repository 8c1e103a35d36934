"""Words beside what they name, placed where they hide nothing."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from hypergen.report.palette import for_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

DIRECTIONS = (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)
"""Where a label is tried: right, left, above, below, and between these."""
DISTANCES = 6, 12, 20, 32, 48, 70, 95, 130
"""How far from its point a label is tried, in points (1/72 inch)."""
NEAR = 12
"""From beyond this distance a line leads to the point."""
SIDES: Mapping[int, Literal["right", "center", "left"]] = {-1: "right", 0: "center", 1: "left"}
HEIGHTS: Mapping[int, Literal["top", "center", "bottom"]] = {-1: "top", 0: "center", 1: "bottom"}
WIDTH = 24
"""Characters of a line of a label."""


@dataclass(frozen=True)
class Label:
    """A text for a point in the coordinates of the data, in a colour."""

    text: str
    point: tuple[float, float]
    colour: str


def settle(figure: "Figure") -> None:
    """Lets the layout engine lay the figure out, once for all."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def boxes(axes: "Axes", points: Iterable[tuple[float, float]], size: float) -> "list[Bbox]":
    """Squares around points of the data, `size` points (1/72 inch) wide, in pixels."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    half, points = 0.5 * size * figure.dpi / 72, [*points]
    places = axes.transData.transform(points) if points else []
    return [Bbox([[x - half, y - half], [x + half, y + half]]) for x, y in places]


def along(line: Sequence[tuple[float, float]], count: int = 20) -> Iterator[tuple[float, float]]:
    """Points of a line through others, `count` from each to the next."""
    for (x, y), (to_x, to_y) in pairwise(line):
        for i in range(count + 1):
            yield x + i / count * (to_x - x), y + i / count * (to_y - y)


def place(axes: "Axes", labels: Sequence[Label], obstacles: "Sequence[Bbox]") -> None:
    """Writes each label beside its point, at the nearest place where it covers least.

    It covers nothing of `obstacles` (boxes in pixels) nor of other labels, and stays inside the
    axes, where there is room for it. The axes' limits and the layout must be final (see `settle`).
    """
    inside = axes.get_window_extent()
    taken = [*obstacles]
    for label in labels:
        text = _written(axes, label)
        best = None
        for distance, direction in ((d, each) for d in DISTANCES for each in DIRECTIONS):
            _move(text, distance, direction)
            box = text.get_window_extent()
            cut = not (inside.containsx(box.x0) and inside.containsx(box.x1))
            cut = cut or not (inside.containsy(box.y0) and inside.containsy(box.y1))
            covered = box.padded(1).count_overlaps(taken) + 100 * cut
            if best is None or covered < best[0]:
                best = covered, distance, direction
            if not covered:
                break
        assert best is not None
        _, distance, direction = best
        _move(text, distance, direction)
        taken.append(text.get_window_extent())
        if distance > NEAR:
            _lead(axes, label, distance, direction)


def _written(axes: "Axes", label: Label) -> "Annotation":
    return axes.annotate(
        textwrap.fill(label.text, WIDTH),
        label.point,
        (0, 0),
        textcoords="offset points",
        color=for_text(label.colour),
        fontsize="small",
    )


def _move(text: "Annotation", distance: float, direction: tuple[int, int]) -> None:
    right, up = direction
    text.set_horizontalalignment(SIDES[right])
    text.set_verticalalignment(HEIGHTS[up])
    text.set_position((distance * right, distance * up))


def _lead(axes: "Axes", label: Label, distance: float, direction: tuple[int, int]) -> None:
    """A line from a label that is far from its point to there."""
    end = distance * direction[0], distance * direction[1]
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
    axes.annotate("", label.point, end, textcoords="offset points", arrowprops=line)
