"""Finds the best of many networks without attacking all of them at length.

Successive halving (Jamieson, Talwalkar 2016): the cheapest attack meets all, and each dearer one
fewer, those that did best before. All of it on images that the final figure is not taken on.

The cheap attacks aim at several wrong classes, as the strongest do: ten steps towards each of nine
rank networks as the standard attacks do (Kendall's tau 0.98), twenty steps up the margin or the
value network only roughly (0.81, 0.70; 40 samples of one generator, digits).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

import attacks
from hypergen.data import Split
from hypergen.evaluation.evaluator import cost
from hypergen.measures import Measure, Stage, judged
from hypergen.measures.attacked import accuracies, attack_population
from hypergen.runtime.progress import SILENT, Progress
from targets import Population

FINALISTS = 2
"""Networks that meet the last and dearest attack, for each one that is kept."""


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
    """Indices [keep] of the best networks, best first (see `rank`).

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
    *reached, last = sizes(len(population), keep, len(schedule))
    indices = order.to(population.theta.device)
    accuracy = accuracies(population, *split.first(len(split)))
    rounds = [f"{size} networks, {each.name}" for each, size in zip(schedule, reached, strict=True)]
    costs = [cost(attack) * size for attack, size in zip(schedule, reached, strict=True)]
    phases = progress.split(dict(zip(rounds, costs, strict=True)))
    for name, attack, size in zip(rounds, schedule, reached, strict=True):
        indices, phase = indices[:size], phases[name]
        some = population.choose(indices)
        phase.start(size * len(labels))
        masks = attack_population(some, attacked, labels, attack, seed, advance=phase.advance)
        phase.finish()
        scores = torch.stack([accuracy[indices], masks.robust_accuracy], -1)
        indices = indices[rank(scores, weights.to(indices.device)[indices])]
    return indices[:last]


@torch.no_grad()
def best_measured(
    population: Population,
    weights: Tensor,
    measures: Sequence[Measure],
    images: Tensor,
    labels: Tensor,
    stage: Stage,
    keep: int,
) -> Tensor:
    """Indices [keep] of the best of P networks by measures of any kind, best first.

    weights: [P,M], of the measures, each of which is taken once of all networks on images
    [N,C,H,W], with the budget that it is judged by.
    """
    return rank(judged(measures, population, images, labels, stage), weights)[:keep]
