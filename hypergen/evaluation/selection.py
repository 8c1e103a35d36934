"""Finds the best of many networks without measuring all of them at length.

Successive halving (Jamieson, Talwalkar 2016): the cheapest measurement is made of all, and each
dearer one of fewer, those that did best before. All of it on images that the final figure is not
taken on.

The cheap attacks aim at several wrong classes, as the strongest do: ten steps towards each of nine
rank networks as the standard attacks do (Kendall's tau 0.98), twenty steps up the margin or the
value network only roughly (0.81, 0.70; 40 samples of one generator, digits).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import attacks
from hypergen.data import Split
from hypergen.evaluation.evaluator import cost
from hypergen.measures import (
    AttackedMeasure,
    Measure,
    Stage,
    measured,
    prepare_batch,
    strict,
)
from hypergen.measures.attacked import accuracies, attack_population
from hypergen.runtime.progress import SILENT, Progress
from targets import Population

FINALISTS = 2
"""Networks that meet the last and dearest attack, for each one that is kept."""
SHARES = 0.25, 0.5, 1.0
"""Of the images, how many each round of `halve_by_measures` takes."""


@dataclass(frozen=True)
class Round:
    """One round of successive halving.

    name: of what networks meet in it.
    cost: about, of one network, in forward passes.
    measure: networks, by their indices [p], to their figures [p,M]; tells its progress.
    """

    name: str
    cost: float
    measure: Callable[[Tensor, Progress], Tensor]


def attack_schedule(threat: attacks.Threat) -> list[attacks.Attack]:
    """The attacks, each several times dearer than the one before."""
    return [
        attacks.PGD(threat, steps=10, loss="targeted", restarts=3),
        attacks.PGD(threat, steps=20, loss="targeted", restarts=9),
        attacks.standard(threat),
    ]


def sizes(count: int, keep: int, rounds: int) -> list[int]:
    """How many networks reach each round: from all `count` down in equal ratios, then `keep`."""
    last = min(count, FINALISTS * keep)
    ratio = (last / count) ** (1 / max(1, rounds - 1))
    return [round(count * ratio**index) for index in range(rounds)] + [keep]


def rank(scores: Tensor, weights: Tensor) -> Tensor:
    """[P], the order of networks by the weighted sum of their measures, best first.

    scores: [P,M] in [0,1], measured or estimated; weights: [P,M], of the measures.
    """
    total = (weights.to(scores.device) * scores).sum(-1)
    return total.argsort(descending=True, stable=True)


def successive_halving(
    population: Population,
    order: Tensor,
    weights: Tensor,
    split: Split,
    schedule: Sequence[attacks.Attack],
    keep: int,
    images: int = 100,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Tensor:
    """Indices [keep] of the best networks by accuracy and robustness, best first (see `rank`).

    Args:
        population: P networks.
        order: their indices [P], best first, as far as is known before any attack; decides ties.
        weights: [P,2], of accuracy and robustness.
        split: where accuracy is taken on all images and robustness on the first `images`.
        schedule: what attacks, cheap ones first (see `attack_schedule`).
        keep: how many are wanted, at most P.
        seed: of the attacks.
    """
    attacked, labels = split.first(images)
    accuracy = accuracies(population, *split.first(len(split)))

    def by(attack: attacks.Attack) -> Round:
        def measure(indices: Tensor, phase: Progress) -> Tensor:
            some = population.choose(indices)
            phase.start(len(some) * len(labels))
            masks = attack_population(some, attacked, labels, attack, seed, advance=phase.advance)
            return torch.stack([accuracy[indices], masks.robust_accuracy], -1)

        return Round(attack.name, cost(attack), measure)

    order = order.to(population.theta.device)
    return _halve(order, weights, [by(attack) for attack in schedule], keep, progress)


@torch.no_grad()
def halve_by_measures(
    population: Population,
    order: Tensor,
    weights: Tensor,
    measures: Sequence[Measure],
    split: Split,
    threat: attacks.Threat,
    keep: int,
    images: int = 100,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Tensor:
    """Indices [keep] of the best networks by measures of any kind, best first (see `rank`).

    All are measured on few images, ever fewer on more of them, and the last on all. Before the last
    round measures have the budgets of training and the first attack of `attack_schedule`, in it
    those that figures are judged by and the second: the order of what reaches the end is that of
    measuring everything.

    Args:
        population, order, keep, seed: as in `successive_halving`.
        weights: [P,M], of the measures.
        measures: M of them, accuracy the first.
        split: where accuracy is taken on all images and the others on the first `images`.
        threat: of the run.

    Raises:
        InputError: a measure fails.
    """
    accuracy = accuracies(population, *split.first(len(split)))
    whole = [strict(measure) for measure in measures]
    # Of these the attack is the budget.
    cheap = [
        full if isinstance(full, AttackedMeasure) else measure
        for full, measure in zip(whole, measures, strict=True)
    ]

    def on(share: float) -> Round:
        used, labels = split.first(math.ceil(share * images))
        budgets, place = (cheap, 0) if share < 1 else (whole, 1)
        stage = Stage(lambda each: attack_schedule(each)[place], seed)

        def measure(indices: Tensor, phase: Progress) -> Tensor:
            some = population.choose(indices)
            phase.start(len(some))
            batch = prepare_batch(budgets, some, used, labels, stage)
            figures = measured(budgets, some, batch)
            figures[:, 0] = accuracy[indices]
            phase.advance(len(some))
            return figures

        return Round(f"{len(labels)} images", share * cost(stage.attack(threat)), measure)

    order = order.to(population.theta.device)
    return _halve(order, weights, [on(share) for share in SHARES], keep, progress)


def _halve(
    order: Tensor, weights: Tensor, rounds: Sequence[Round], keep: int, progress: Progress
) -> Tensor:
    """Indices [keep] of the networks of `order` [P] that come through all rounds, best first."""
    *reached, last = sizes(len(order), keep, len(rounds))
    names = [
        f"round {place}, {size} networks, {each.name}"
        for place, (each, size) in enumerate(zip(rounds, reached, strict=True), 1)
    ]
    costs = [each.cost * size for each, size in zip(rounds, reached, strict=True)]
    phases = progress.split(dict(zip(names, costs, strict=True)))
    indices = order
    for name, each, size in zip(names, rounds, reached, strict=True):
        indices = indices[:size]
        figures = each.measure(indices, phases[name])
        phases[name].finish()
        indices = indices[rank(figures, weights.to(indices.device)[indices])]
    return indices[:last]
