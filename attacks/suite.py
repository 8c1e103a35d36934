"""Several attacks as one: an image is robust if it is robust to them all."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.apgd import APGD, TargetedAPGD
from attacks.base import Attack, AttackError, AttackResult, Model, PerNetworkRNG
from attacks.fab import TargetedFAB
from attacks.losses import margin
from attacks.model import worst
from attacks.square import Square
from attacks.threat import NORMS, Threat


@dataclass(frozen=True, init=False)
class Suite(Attack):
    """Worst case per image over attacks; each is run on the images that are still robust.

    What one attack claims is checked before the next begins, so a wrong one cannot shield an image
    from the others.

    Args:
        attacks: one or more, cheap ones first. Those of several threats judge by the union of all
            (Tramer, Boneh 2019); the suite's own threat is then that of the first.
        name: what to call them together.

    Raises:
        AttackError: no attacks.
    """

    unconstrained_norms = NORMS
    attacks: tuple[Attack, ...]
    title: str

    def __init__(self, *attacks: Attack, name: str = "suite") -> None:
        if not attacks:
            raise AttackError("expected at least one attack in a suite, got none")
        object.__setattr__(self, "threat", attacks[0].threat)
        object.__setattr__(self, "attacks", attacks)
        object.__setattr__(self, "title", name)

    @property
    def name(self) -> str:
        return self.title

    @property
    def perturbs(self) -> bool:
        return any(attack.perturbs for attack in self.attacks)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "threat": asdict(self.threat),
            "attacks": [attack.describe() for attack in self.attacks],
        }

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """For every image the point of the greatest margin that any of the attacks makes of it."""
        made = [
            attack._perturb(model, images, labels, PerNetworkRNG(rng.seeds, images.device))
            for attack in self.attacks
            if attack.perturbs
        ]
        return worst(model, [images, *made], labels, margin)

    def _attack(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        active: Tensor,
        seeds: Sequence[int],
    ) -> AttackResult:
        adv, masks = images, {}
        for attack in self.attacks:
            result = attack._attack(model, images, labels, logits, active, seeds)
            broken = active & ~result.robust_mask
            adv = torch.where(broken[..., None, None, None], result.images, adv)
            active = result.robust_mask
            for name, robust in result.masks.items():
                masks[_unique_name(name, masks)] = robust
        return AttackResult(adv, active, masks)


def standard(threat: Threat, steps: int = 100, queries: int = 5000) -> Suite:
    """The suite behind standard robust accuracy, AutoAttack: APGD-CE, APGD-T, FAB-T and Square.

    At its budgets (Croce, Hein 2020), in l1 those of its l1 version (Croce, Hein 2021): 5 restarts
    of APGD-CE, 5 targets of APGD-T.

    Args:
        threat: of any norm.
        steps: of APGD-CE, and of APGD-T and FAB-T for each of 9 targets, or of all wrong classes
            where there are fewer.
        queries: forward passes of Square, whose schedule is not rescaled to them, as in AutoAttack.

    Raises:
        AttackError: a budget below 1.
    """
    restarts, targets = (5, 5) if threat.norm == "l1" else (1, 9)
    return Suite(
        APGD(threat, steps=steps, restarts=restarts),
        TargetedAPGD(threat, steps=steps, targets=targets),
        TargetedFAB(threat, steps=steps),
        Square(threat, queries=queries, rescale=False),
        name="standard",
    )


def quick(threat: Threat, steps: int = 20, queries: int = 500) -> Suite:
    """The attacks of `standard` at a fifth of its steps and a tenth of its queries: a first look.

    Arguments and errors as in `standard`.
    """
    return Suite(*standard(threat, steps, queries).attacks, name="quick")


def _unique_name(name: str, taken: Collection[str]) -> str:
    """`name`, or `name (2)`, ... where a suite holds the same attack with other options."""
    count, unique = 1, name
    while unique in taken:
        count += 1
        unique = f"{name} ({count})"
    return unique
