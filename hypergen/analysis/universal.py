"""Universal perturbations: what one made for each network does to the networks of all groups."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import attacks
from hypergen.analysis.base import REFUSALS, Analysis, Context, Finding, Group, Row, rows_of
from hypergen.catalog import ANALYSES
from hypergen.measures.attacked import predictions
from hypergen.report.analysis import group_ticks, known_by_group, panels, points_by_group
from hypergen.report.names import tails
from hypergen.runtime.batching import for_all, map_networks
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import Progress
from targets import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FITTED = 300
"""Training images that a perturbation is made of."""
PASSES, BATCH, STEP_SIZE = 5, 32, 0.2
RADIUS = 3.0
"""Of the ball that perturbations lie in, relative to epsilon."""
RANDOM = 5
"""Random perturbations that a network is tried on."""
FEWEST = 10
"""Images that must be fooled before it is told where they go: of few, one class leads by chance."""


@ANALYSES.register("universal")
class UniversalPerturbations(Analysis):
    """One perturbation for all images: whom it fools, beside noise, and into which class.

    For each network a perturbation is fitted on training images by `attacks.UniversalGradient`, and
    tried on the test images of every network, of whatever group and architecture. It fools an image
    if the class that the network sees is another with it than without, whichever is right, as in
    the source (Moosavi-Dezfooli, Fawzi, Fawzi, Frossard 2017, "Universal adversarial
    perturbations"; its table 2 is such a matrix, of six networks for ImageNet).

    They have `RADIUS` times the threat's epsilon: within epsilon, one for all images fools next to
    none of MNIST. Random ones are drawn from the sphere of that radius, and so are no smaller.
    """

    title = "universal perturbations"
    figures = {
        "own": "share of test images fooled by the perturbation made for the network, in a ball of "
        f"{RADIUS:g} times epsilon",
        "mates": "share fooled by one made for another network of its group, mean",
        "strangers": "share fooled by one made for a network of another group, mean over groups",
        "random": f"share fooled by a random perturbation of that length, mean of {RANDOM}",
        "same_class": "of the images fooled by its own perturbation, the share that goes to the "
        f"most frequent class; told from {FEWEST} fooled images on",
    }
    cost = 8.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        """Of a group by itself: nothing comes from strangers."""
        return _tried(group, {group.name: fitted(group.population, context)}, context)

    def run(self, groups: Sequence[Group], context: Context, progress: Progress) -> Finding:
        """Looks at all groups together: each is tried on what was made for any of them."""
        made: dict[str, Tensor] = {}
        skipped: dict[str, str] = {}
        phases = progress.split({"fitting": 5.0, "trying": 1.0})
        phases["fitting"].start(len(groups))
        for group in groups:
            try:
                made[group.name] = fitted(group.population, context)
            except REFUSALS as error:
                skipped[group.name] = str(error.args[0])
            phases["fitting"].advance()
        shown = [group for group in groups if group.name in made]
        found: list[Row] = []
        phases["trying"].start(len(shown))
        for group in shown:
            found += rows_of(group, _tried(group, made, context))
            phases["trying"].advance()
        return self.pictured(groups, found, skipped, {}, context)

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """The matrix between groups, every network's own, and to which class fooled images go."""
        title = f"One perturbation for all images, {RADIUS:g} times as large as the threat allows"
        title += f"\n{context.caption(groups)}"
        figure = panels(1, 3, title, (4.6, 4.0))
        matrix, own, label = figure.subplots(1, 3)
        names = [group.name for group in groups]
        _draw_matrix(matrix, names, rows)
        for axes, figure_name, of, head in (
            (own, "own", "test images", "fooled by the perturbation made for the network itself"),
            (label, "same_class", "fooled images", "of these, to the most frequent class"),
        ):
            points_by_group(axes, names, _percent(rows, names, figure_name), f"% of {of}")
            axes.set_ylim(bottom=0)
            axes.set_title(f"{head}\n(a point a network)", fontsize="small")
        return figure


def wide(threat: attacks.Threat) -> attacks.Threat:
    """The ball that perturbations lie in, `RADIUS` times as large."""
    return replace(threat, epsilon=RADIUS * threat.epsilon)


def fitted(population: Population, context: Context) -> Tensor:
    """A universal perturbation for each network, [P,C,H,W], made of training images: only once."""
    if population not in context.fitted:
        context.fitted[population] = _fit(population, context)
    return context.fitted[population]


@full_precision()
def _fit(population: Population, context: Context) -> Tensor:
    images, labels = context.dataset.train.first(FITTED)
    attack = attacks.UniversalGradient(
        wide(context.threat), passes=PASSES, batch=BATCH, step_size=STEP_SIZE
    )

    def fit(_: slice, chunk: Population) -> Tensor:
        return attack.fit(chunk, for_all(images, chunk), labels, [context.seed] * len(chunk))

    return torch.cat(map_networks(fit, population, images))


def random_perturbations(context: Context, count: int) -> Tensor:
    """So many, [count,C,H,W], from the sphere that bounds what may be `fitted`."""
    shape = 1, count, *context.dataset.input_shape
    noise = torch.randn(shape, generator=context.rng())
    threat = wide(context.threat)
    return threat.step(noise, threat.epsilon)[0].to(context.dataset.device)


def _tried(group: Group, made: Mapping[str, Tensor], context: Context) -> list[Row]:
    """A row a network of the group, tried on perturbations [Q,C,H,W] made for groups by name."""
    images, _ = context.images()
    clean = predictions(group.population, images)

    def classes(perturbations: Tensor) -> Tensor:
        """[Q,P,N], of each network under each perturbation."""
        each = (attacks.perturbed(images[None], one[None])[0] for one in perturbations)
        return torch.stack([predictions(group.population, points) for points in each])

    count = len(group.population)
    own = classes(made[group.name])
    others = {name: classes(each) for name, each in made.items() if name != group.name}
    noisy = classes(random_perturbations(context, RANDOM))
    fooled = (own != clean).double().mean(-1)
    rates = {name: (each != clean).double().mean((0, 2)) for name, each in others.items()}
    by_noise = (noisy != clean).double().mean((0, 2))
    rows: list[Row] = []
    for index in range(count):
        by_others = {name: float(rate[index]) for name, rate in rates.items()}
        strangers = [*by_others.values()]
        itself = float(fooled[index, index])
        mates = (float(fooled[:, index].sum()) - itself) / (count - 1) if count > 1 else None
        reached = own[index, index][own[index, index] != clean[index]]
        row = {"own": itself, "mates": mates, "random": float(by_noise[index])}
        row["strangers"] = statistics.fmean(strangers) if strangers else None
        most = float(reached.bincount().max()) if len(reached) >= FEWEST else None
        row["same_class"] = None if most is None else most / len(reached)
        rows.append(row | {"by_others": by_others})
    return rows


def _rate(row: Row, source: str | None) -> float:
    """The share that is fooled by what was made for a group; by noise where that is None."""
    if source is None:
        return row["random"]
    return row["own"] if source == row["group"] else row["by_others"][source]


def _percent(rows: Sequence[Row], names: Sequence[str], figure: str) -> dict[str, list[float]]:
    """A figure of the networks of each group, where it is known."""
    known = known_by_group(rows, names, figure)
    return {name: [100 * value for value in values] for name, values in known.items()}


def _draw_matrix(axes: "Axes", names: Sequence[str], rows: Sequence[Row]) -> None:
    """Fooling rates: what was made for groups, and noise, on groups; on the diagonal two each."""
    sources = [*names, None]  # None: noise
    shown: list[list[float]] = []
    for source in sources:
        line = []
        for tried in names:
            own = [row for row in rows if row["group"] == tried]
            rates = [_rate(row, source) for row in own]
            line.append(100 * statistics.fmean(rates))
        shown.append(line)
    highest = max(1.0, *(max(line) for line in shown))
    axes.imshow(shown, vmin=0, vmax=highest, aspect="auto")
    for row, (source, line) in enumerate(zip(sources, shown, strict=True)):
        for column, (tried, value) in enumerate(zip(names, line, strict=True)):
            mates = _percent(rows, names, "mates")[tried] if source == tried else []
            text = f"{value:.0f} itself" if source == tried else f"{value:.0f}"
            text += f"\n{statistics.fmean(mates):.0f} mates" if mates else ""
            dark = "black" if value > highest / 2 else "white"
            axes.text(column, row, text, ha="center", va="center", color=dark, fontsize="small")
    group_ticks(axes, names, names)
    labels = [*tails(names).values(), "random"]
    axes.set_yticks(range(len(sources)), labels, fontsize="small")
    axes.set_xlabel("tried on")
    axes.set_ylabel("made for")
    head = "% of test images whose class changes\n(mates: other networks of the group)"
    axes.set_title(head, fontsize="small")
