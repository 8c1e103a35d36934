"""How borders between classes are curved, and what that tells of adversarial examples."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import attacks
from attacks import PerNetworkRNG
from hypergen.analysis.base import Analysis, Context, Group, NotApplicable, Row
from hypergen.analysis.decision_border import Border, nearest
from hypergen.analysis.detector import Detector, auroc, evade
from hypergen.analysis.universal import fitted
from hypergen.catalog import ANALYSES
from hypergen.report.analysis import MAX_CHARACTERS, known_by_group, panels, points_by_group
from hypergen.report.names import tails
from hypergen.report.palette import colour
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import Progress
from targets import Population, max_workers, parallel_map
from targets.kwta import KWTA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = 30
"""Examples of each attack, and clean images whose border is looked at, at most."""
FEW = 15
"""Images for what takes longer: Carlini and Wagner, and further borders."""
SPECTRA, PRINCIPAL = 2, 6
"""Images whose greatest principal curvatures are found, and how many of these."""
DIRECTIONS, EVADING_DIRECTIONS = 12, 1
"""Drawn for a mean curvature, and for each step of the attack that knows the detector."""
FEWEST = 5
"""Examples that an attack must have found before it is told how many are detected."""
CW = {"steps": 30, "searches": 2, "first_weight": 3.0, "learning_rate": 0.2}
"""Of Carlini and Wagner: the published 9,000 steps would take minutes."""
ATTACKS = {
    "attack": "attack",
    "deepfool": "DeepFool",
    "cw": "C&W",
    "universal": "universal",
    "adaptive": "knows the\ndetector",
}


@ANALYSES.register("curvature")
class Curvature(Analysis):
    """How the decision border is curved near clean and attacked images, and whom that gives away.

    Near an image, and near what the attack made of others to fool the network, the border to the
    nearest other class is found, and its mean and principal curvatures there (decision_border.py
    says what these are). The curvature at images themselves is the score of a detector
    (analysis/detector.py), which is tried on images that the network gets right against examples
    that fool it: of the attack of this command; of DeepFool and of Carlini and Wagner, which go
    anywhere in [0, 1] to be near, in l2; of a universal perturbation; and of an attack that goes on
    from the first and knows the detector.

    All is measured over the same step, half the median distance to the border of validation images.

    Source: Fawzi, Moosavi-Dezfooli, Frossard, Soatto 2017, "Classification regions of deep neural
    networks" (2018: "Empirical study of the topology and geometry of deep networks").
    """

    title = "curvature"
    figures = {
        "clean": "mean curvature of the border nearest to clean images, 1 / l2 distance; below 0 "
        "the other class bulges towards the image",
        "attacked": "the same for examples of the attack, which the network gets wrong",
        "negative": f"share of the {PRINCIPAL} principal curvatures of greatest size that are "
        f"below 0, near {SPECTRA} clean images",
        "auroc_attack": "of the detector, on clean images against examples of the attack: 1 "
        f"tells them apart, 0.5 does not; told, as the others, from {FEWEST} examples on",
        "auroc_deepfool": "the same against examples of DeepFool",
        "auroc_cw": "the same against examples of Carlini and Wagner",
        "auroc_universal": "the same against images that a universal perturbation fools with",
        "auroc_adaptive": "the same against examples of an attack that knows the detector",
    }
    cost = 30.0

    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        population = group.population
        if any(isinstance(layer, KWTA) for layer in population[0].modules()):
            raise NotApplicable("k-WTA makes the logits jump: such a border has no curvature")
        progress.start(len(population))
        universal = fitted(population, context)

        def look(number: int) -> Row:
            one = slice(number, number + 1)
            row = _row(population[one], universal[one], context)
            progress.advance()
            return row

        return [*parallel_map(look, range(len(population)), max_workers(context.dataset.device))]

    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """Mean curvatures, the greatest principal ones, and how well the detector does."""
        figure = panels(2, 2, f"Curvature of decision borders\n{context.caption(groups)}", (5, 3.6))
        (clean, attacked), (principal, detector) = figure.subplots(2, 2)
        names = [group.name for group in groups]
        label = "mean curvature (1 / l2 distance)"
        example = f"examples of {context.attack.name}"
        for axes, key, of, toward in (
            (clean, "clean", "clean images", "below 0: the other class bulges towards them"),
            (attacked, "attacked", example, "above 0: it bends around them"),
        ):
            points_by_group(axes, names, known_by_group(rows, names, key), label)
            axes.axhline(0, color="grey", linewidth=1)
            axes.set_title(f"border nearest to {of}\n(a point a network; {toward})")
        attacked.sharey(clean)
        _draw_principal(principal, names, rows)
        _draw_detector(detector, names, rows, context.attack.name)
        for axes in (clean, attacked, principal, detector):
            axes.title.set_fontsize("small")
        handles, labels = principal.get_legend_handles_labels()
        columns = max(1, MAX_CHARACTERS * 3 // max(map(len, labels)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        return figure


@full_precision()
@torch.no_grad()
def _row(network: Population, universal: Tensor, context: Context) -> Row:
    """Figures of one network, P = 1, with its universal perturbation [1,C,H,W].

    Those that cannot be told are None.
    """
    row: Row = dict.fromkeys(Curvature.figures) | {"step": None, "principal": []}
    images, labels = (each[None] for each in context.images())
    right = ~attacks.misclassified(attacks.evaluate(network, images), labels)[0]
    images, labels = images[:, right], labels[:, right]
    distances = nearest(network, context.dataset.val.first(FEW)[0][None])[1]
    near = distances[distances.isfinite()]
    if not len(near) or not right.any():
        return row
    row["step"] = step = 0.5 * float(near.median())
    border, distance, beyond = nearest(network, images[:, :IMAGES])
    row["clean"] = _mean_curvature(border, distance, step, context)
    found = distance[0].isfinite().nonzero().flatten()[:SPECTRA]
    principal = [border.at(i).greatest(step, PRINCIPAL, _rng(context)) for i in found.tolist()]
    if principal:
        row["negative"] = float((torch.cat(principal) < 0).double().mean())
        row["principal"] = [each.tolist() for each in principal]
    tried = _attacked(network, images, labels, context) | {"deepfool": beyond}
    tried["universal"] = attacks.perturbed(images, universal)
    fooled = {name: _wrong(network, points, labels) for name, points in tried.items()}
    examples = {name: points[:, fooled[name]] for name, points in tried.items()}
    detector = Detector(step, DIRECTIONS)
    if examples["attack"].shape[1]:
        across, distance, _ = nearest(network, examples["attack"][:, :FEW])
        row["attacked"] = _mean_curvature(across, distance, step, context)
        own = images[:, fooled["attack"]], labels[:, fooled["attack"]], examples["attack"]
        knowing = replace(detector, directions=EVADING_DIRECTIONS)
        rng = PerNetworkRNG([context.seed + 1], images.device)  # not the draws that it is judged by
        examples["adaptive"] = evade(network, knowing, context.threat, *own, rng)
    clean = detector.scores(network, images, _rng(context))[0]
    for name, points in examples.items():
        row[f"examples_{name}"] = count = points.shape[1]
        if count >= FEWEST:
            scores = detector.scores(network, points, _rng(context))[0]
            row[f"auroc_{name}"] = auroc(scores, clean)
    return row


def _attacked(
    network: Population, images: Tensor, labels: Tensor, context: Context
) -> dict[str, Tensor]:
    """Points [1,n,C,H,W] of attacks for the first n of images [1,N,C,H,W], fooling or not."""
    anywhere = attacks.Threat("l2", math.sqrt(images[0, 0].numel()))
    carlini_wagner = attacks.CarliniWagner(anywhere, **CW)
    some = images[:, :FEW], labels[:, :FEW]
    return {
        "attack": context.attacked(network, images[0], labels[0]),
        "cw": carlini_wagner(network, *some, [context.seed]).images,
    }


def _wrong(network: Population, points: Tensor, labels: Tensor) -> Tensor:
    """The indices of those of points [1,n,C,H,W] that fool the network, `IMAGES` at most.

    labels: [1,N], the first n of which are theirs.
    """
    logits = attacks.evaluate(network, points)
    wrong = attacks.misclassified(logits, labels[:, : points.shape[1]])
    return wrong[0].nonzero().flatten()[:IMAGES]


def _mean_curvature(
    border: Border, distance: Tensor, step: float, context: Context
) -> float | None:
    """Over the points of the border, where it was found."""
    found = border.mean_curvature(step, DIRECTIONS, _rng(context))[distance.isfinite()]
    return float(found.mean()) if len(found) else None


def _rng(context: Context) -> PerNetworkRNG:
    return PerNetworkRNG([context.seed], context.dataset.device)


def _draw_principal(axes: "Axes", names: Sequence[str], rows: Sequence[Row]) -> None:
    """A line a group: the mean of the least of the greatest, of the next, and so on."""
    called = tails(names)
    for name in names:
        spectra = [each for row in rows if row["group"] == name for each in row["principal"]]
        longest = max(map(len, spectra), default=0)
        whole = torch.tensor([each for each in spectra if len(each) == longest])
        means = whole.mean(0).tolist() if longest else []
        axes.plot(range(1, longest + 1), means, "o-", color=colour(name, names), label=called[name])
    axes.axhline(0, color="grey", linewidth=1)
    axes.set_xlabel("rank, from most negative to most positive")
    axes.set_ylabel("principal curvature (1 / l2 distance)")
    axes.set_title(
        f"the {PRINCIPAL} greatest principal curvatures near clean images\n"
        f"(mean over {SPECTRA} images a network)"
    )
    axes.grid(alpha=0.3)


def _draw_detector(
    axes: "Axes", names: Sequence[str], rows: Sequence[Row], attack_name: str
) -> None:
    """AUROCs by attack, a point a network, groups beside one another."""
    for place, name in enumerate(names):
        for column, attack in enumerate(ATTACKS):
            values = known_by_group(rows, names, f"auroc_{attack}")[name]
            x = column + 0.8 * ((place + 0.5) / len(names) - 0.5)
            axes.scatter([x] * len(values), values, color=colour(name, names), s=18, alpha=0.8)
    axes.axhline(0.5, color="grey", linewidth=1)
    beside = axes.get_yaxis_transform()
    axes.text(1.01, 0.5, "chance", transform=beside, va="center", fontsize="small")
    labels = (ATTACKS | {"attack": attack_name}).values()
    axes.set_xticks(range(len(ATTACKS)), labels, fontsize="x-small")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("AUROC, clean against attacked")
    axes.set_title(f"detector (a point a network, from {FEWEST} fooling examples on)")
    axes.grid(alpha=0.3)
