"""The best of many networks, found without attacking all of them at length.

Successive halving (Jamieson, Talwalkar 2016): the cheapest attack meets all, and each dearer one
fewer, those that did best before. All of it on images that the final figure is not taken on.

The cheap attacks aim at several wrong classes, as the strongest do: ten steps towards each of nine
rank networks as the standard attacks do (Kendall's tau .98), twenty steps up the margin or the
value network only roughly (.81, .70; 40 samples of one generator, digits).
"""

import torch
from torch import Tensor

import attacks
from hypergen.data import Split
from hypergen.latent import preference_weights
from hypergen.measure import accuracies, survivors
from hypergen.tracking import Bar
from targets import Population

FINALISTS = 2
"""Networks that meet the last and dearest attack, for each one that is kept."""


def rungs(threat: attacks.Threat) -> list[attacks.Attack]:
    """The attacks, each several times dearer than the one before."""
    return [
        attacks.PGD(threat, steps=10, loss="targeted", restarts=3),
        attacks.PGD(threat, steps=20, loss="targeted", restarts=9),
        attacks.standard(threat),
    ]


def sizes(count: int, keep: int, rungs: int) -> list[int]:
    """How many networks reach each rung: from all `count` down in equal ratios, then `keep`."""
    last = min(count, FINALISTS * keep)
    ratio = (last / count) ** (1 / (rungs - 1))
    return [round(count * ratio**rung) for rung in range(rungs)] + [keep]


def rank(figures: Tensor, betas: Tensor) -> Tensor:
    """[P], the order of networks by alpha * accuracy + beta * robustness, best first.

    figures: [P,2] in [0,1], measured or estimated; betas: [P] in [0,1], weights of robustness.
    """
    worth = (preference_weights(betas.to(figures.device)) * figures).sum(-1)
    return worth.argsort(descending=True, stable=True)


def best(
    population: Population,
    order: Tensor,
    betas: Tensor,
    split: Split,
    threat: attacks.Threat,
    keep: int,
    images: int = 100,
    seed: int = 0,
) -> Tensor:
    """Places [keep] of the best networks, best first (see `rank`).

    Args:
        population: P networks.
        order: their places [P], best first, as far as is known before any attack; decides ties.
        betas: [P] in [0,1], weights of robustness.
        split: where accuracy is taken on all images and robustness on the first `images`.
        threat: what the attacker may do.
        keep: how many are wanted, at most P.
        seed: of the attacks.
    """
    attacked, labels = split.first(images)
    ladder = rungs(threat)
    *reached, last = sizes(len(population), keep, len(ladder))
    places = order.to(population.theta.device)
    accuracy = accuracies(population, *split.first(len(split)))
    for attack, size in zip(ladder, reached, strict=True):
        places = places[:size]
        some = population.choose(places)
        bar = Bar(f"{size} networks, {attack.name}", size * len(labels))
        table = survivors(some, attacked, labels, attack, seed, progress=bar.advance)
        bar.close()
        robustness = list(table.values())[-1].float().mean(1)
        figures = torch.stack([accuracy[places], robustness], -1)
        places = places[rank(figures, betas.to(places.device)[places])]
    return places[:last]
