"""The standard attacks, and stronger ones for models whose gradients would mislead those.

Each network is tested for what a gradient-based attack relies on (Tramer et al. 2020, "On adaptive
attacks to adversarial example defenses"): answers that do not change from call to call, and
gradients that say where the margin goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, AttackResult, Model, PerNetworkRNG, differentiate, evaluate
from attacks.eot import EOTPGD
from attacks.losses import margin
from attacks.sampling import SamplingGradient
from attacks.suite import Suite, standard
from attacks.threat import Threat

Condition = Callable[[Threat, Model, Tensor, Tensor, Sequence[int]], Tensor]
"""Threat, model, images [P,B,C,H,W], labels [P,B] and seeds to which networks meet it, bool [P]."""

# Images on which a network is tested.
TEST_IMAGES = 128
# How far off a gradient's predictions may be on average, where 1 is worst, and over which share of
# epsilon they are tested. Measured: ReLU networks on MNIST and digits, robust or not, 0.01 to 0.39;
# k-WTA 0.60 to 0.68, but 0.14 at an epsilon within which it seldom jumps; rounded inputs 1.
MAX_ERROR = 0.5
TEST_RADIUS = 1 / 4
# Stages of the sampling gradient: the first two of the published three. The third is 98 % of the
# queries, and takes a core more than a minute for every robust image (small-lenet5).
STAGES = SamplingGradient.schedule[:2]


@dataclass(frozen=True, init=False)
class ConditionalAttack(Attack):
    """An attack on the networks of a population that meet a condition; it leaves others alone.

    Whether a network meets it does not depend on the others.
    """

    attack: Attack
    condition: Condition

    def __init__(self, attack: Attack, condition: Condition) -> None:
        object.__setattr__(self, "threat", attack.threat)
        object.__setattr__(self, "attack", attack)
        object.__setattr__(self, "condition", condition)

    @property
    def name(self) -> str:
        return self.attack.name

    def describe(self) -> dict[str, Any]:
        return {**self.attack.describe(), "where": self.condition.__name__}

    def _attack(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        active: Tensor,
        seeds: Sequence[int],
    ) -> AttackResult:
        test = slice(0, TEST_IMAGES)
        met = self.condition(self.threat, model, images[:, test], labels[:, test], seeds)[:, None]
        result = self.attack._attack(model, images, labels, logits, active & met, seeds)
        robust = torch.where(met, result.robust_mask, active)
        return AttackResult(result.images, robust, {self.name: robust})


def randomised(
    threat: Threat, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Which networks give other logits when called again; bool [P]."""
    return (evaluate(model, images) != evaluate(model, images)).flatten(1).any(1)


def misleading(
    threat: Threat, model: Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Which networks' gradients do not say where the margin goes, randomised ones aside; bool [P].

    The margin's change between two points near each image, in opposite random directions, is
    compared with what the gradient there predicts.
    """
    directions = threat.random_offset(images, PerNetworkRNG(seeds, images.device)) * TEST_RADIUS
    up, down = (images + directions).clamp(0, 1), (images - directions).clamp(0, 1)
    gradient = differentiate(model, images, lambda logits: margin(logits, labels))[2]
    predicted = (gradient * (up - down)).flatten(2).sum(-1)
    actual = margin(evaluate(model, up), labels) - margin(evaluate(model, down), labels)
    # 0 / 0 where the function is flat, and the gradient as good as none.
    error = ((actual - predicted).abs() / (actual.abs() + predicted.abs())).nan_to_num(1.0)
    # With an epsilon of 0 there is no way to miss.
    masked = (error.mean(1) > MAX_ERROR) & (threat.epsilon > 0)
    return masked & ~randomised(threat, model, images, labels, seeds)


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
        ConditionalAttack(EOTPGD(threat, steps=steps, samples=samples), randomised),
        ConditionalAttack(SamplingGradient(threat, schedule), misleading),
        name="adaptive",
    )
