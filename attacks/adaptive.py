"""The standard attacks, and stronger ones for models whose gradients those would be fooled by.

What a gradient-based attack needs is asked of each network before it is relied on (Tramer et al.
2020, "On adaptive attacks to adversarial example defenses"): answers that do not change from call
to call, and gradients that say where the margin goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, AttackResult, Draws, Model, differentiate, evaluate
from attacks.eot import EOTPGD
from attacks.losses import margin
from attacks.sampling import SamplingGradient
from attacks.suite import Suite, standard
from attacks.threat import Threat

Need = Callable[[Threat, Model, Tensor, Tensor, Sequence[int]], Tensor]
"""Threat, model, images [P,B,C,H,W], labels [P,B] and seeds to which networks need it, bool [P]."""

# Images that networks are asked about.
ASKED = 128
# How far off a gradient's predictions may be on average, where 1 is worst, and over which share of
# epsilon it is asked. Measured: ReLU networks on MNIST and digits, robust or not, .01 to .39;
# k-WTA .60 to .68, but .14 at an epsilon within which it seldom jumps; rounded inputs 1.
MISLED = 0.5
NEARBY = 1 / 4
# Stages of the sampling gradient: the first two of the published three. The third is 98 % of the
# queries, and takes a core more than a minute for every image that holds (small-lenet5).
STAGES = SamplingGradient.schedule[:2]


@dataclass(frozen=True, init=False)
class WhereNeeded(Attack):
    """An attack on the networks of a population that `need` picks; all others survive it.

    Whether a network needs it does not depend on the others.
    """

    attack: Attack
    need: Need

    def __init__(self, attack: Attack, need: Need) -> None:
        object.__setattr__(self, "threat", attack.threat)
        object.__setattr__(self, "attack", attack)
        object.__setattr__(self, "need", need)

    @property
    def name(self) -> str:
        return self.attack.name

    def describe(self) -> dict[str, Any]:
        return {**self.attack.describe(), "where": self.need.__name__}

    def _judge(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        active: Tensor,
        seeds: Sequence[int],
    ) -> AttackResult:
        asked = slice(0, ASKED)
        needed = self.need(self.threat, model, images[:, asked], labels[:, asked], seeds)[:, None]
        result = self.attack._judge(model, images, labels, logits, active & needed, seeds)
        correct = torch.where(needed, result.correct, active)
        return AttackResult(result.images, correct, {self.name: correct})


def randomised(
    threat: Threat, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Which networks give other logits when asked again; bool [P]."""
    return (evaluate(model, images) != evaluate(model, images)).flatten(1).any(1)


def misleading(
    threat: Threat, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Which networks' gradients do not say where the margin goes, randomised ones aside; bool [P].

    The margin's change between two points near each image, in opposite random directions, is
    compared with what the gradient there predicts.
    """
    directions = threat.random_offset(images, Draws(seeds, images.device)) * NEARBY
    up, down = (images + directions).clamp(0, 1), (images - directions).clamp(0, 1)
    gradient = differentiate(model, images, lambda logits: margin(logits, labels))[2]
    predicted = (gradient * (up - down)).flatten(2).sum(-1)
    seen = margin(evaluate(model, up), labels) - margin(evaluate(model, down), labels)
    # 0 / 0 where the function is flat, and the gradient as good as none.
    error = ((seen - predicted).abs() / (seen.abs() + predicted.abs())).nan_to_num(1.0)
    misled = (error.mean(1) > MISLED) & (threat.epsilon > 0)  # without room there is no way to miss
    return misled & ~randomised(threat, model, images, labels, seeds)


def adaptive(
    threat: Threat,
    steps: int = 100,
    queries: int = 5000,
    samples: int = 20,
    schedule: tuple[tuple[int, int], ...] = STAGES,
) -> Suite:
    """`standard`, then EOT-PGD on randomised networks and the sampling gradient on misleading ones.

    Args:
        threat: in l-inf, l2 or l1.
        steps: as in `standard`, and of EOT-PGD.
        queries: as in `standard`.
        samples: of EOT-PGD, draws a step.
        schedule: of `SamplingGradient`; published: `SamplingGradient.schedule`, one stage more.

    Raises:
        AttackError: as `standard`, or samples or a schedule out of range.
    """
    return Suite(
        *standard(threat, steps, queries).attacks,
        WhereNeeded(EOTPGD(threat, steps=steps, samples=samples), randomised),
        WhereNeeded(SamplingGradient(threat, schedule), misleading),
        name="adaptive",
    )
