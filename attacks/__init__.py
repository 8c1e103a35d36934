"""Adversarial attacks on anything that maps images to logits.

    threat = Threat("linf", 0.1)
    result = build("pgd", threat, steps=20)(model, images, labels, seeds=[0])
    result.robust_accuracy

A model takes images [P,B,C,H,W] in [0, 1] to logits [P,B,K]: P networks at once, one being P = 1.

How to add an attack: one file, named as the field names it, with a frozen dataclass that derives
from `Attack`, its hyperparameters as fields, a `name`, and a `_run` that hands every point visited
to `survivors.drop`; and one line in `ATTACKS` below. tests/attacks/conformance.py then tests it.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from attacks.adaptive import adaptive
from attacks.apgd import APGD, TargetedAPGD
from attacks.base import Attack, AttackError, AttackResult, Draws, Model, Survivors
from attacks.carlini_wagner import CarliniWagner
from attacks.deepfool import DeepFool
from attacks.eot import EOTPGD
from attacks.error import unknown
from attacks.fab import TargetedFAB
from attacks.fgsm import FGSM, LineSearchFGSM, RandomFGSM
from attacks.foreign import PREFIX, Torchattacks
from attacks.lbfgs import LBFGS
from attacks.momentum import MomentumFGSM
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rays import RayS
from attacks.sampling import SamplingGradient
from attacks.square import Square
from attacks.suite import Suite, quick, standard
from attacks.threat import Threat
from attacks.universal import UNIVERSAL, Universal, UniversalDeepFool, UniversalGradient, perturbed

__all__ = [
    "APGD",
    "ATTACKS",
    "EOTPGD",
    "FGSM",
    "LBFGS",
    "LineSearchFGSM",
    "PGD",
    "Attack",
    "AttackError",
    "AttackResult",
    "CarliniWagner",
    "DeepFool",
    "Draws",
    "Model",
    "MomentumFGSM",
    "Noise",
    "RandomFGSM",
    "RayS",
    "SamplingGradient",
    "Square",
    "Suite",
    "Survivors",
    "TargetedAPGD",
    "TargetedFAB",
    "Threat",
    "UNIVERSAL",
    "Universal",
    "UniversalDeepFool",
    "UniversalGradient",
    "VERSION",
    "adaptive",
    "build",
    "perturbed",
    "quick",
    "standard",
]

VERSION = 1
"""To be raised when an attack finds other images than before, options being equal: what was found
and kept by another version is not gone on from."""

ATTACKS: dict[str, Callable[..., Attack]] = {
    "fgsm": FGSM,
    "random-fgsm": RandomFGSM,
    "pgd": PGD,
    "apgd-ce": partial(APGD, loss="ce"),
    "apgd-dlr": partial(APGD, loss="dlr"),
    "apgd-t": TargetedAPGD,
    "square": Square,
    "noise": Noise,
    "mi-fgsm": MomentumFGSM,
    "eot-pgd": EOTPGD,
    "deepfool": DeepFool,
    "fab-t": TargetedFAB,
    "sampling-gradient": SamplingGradient,
    "rays": RayS,
    "cw": CarliniWagner,
    "lbfgs": LBFGS,
    "quick": quick,
    "standard": standard,
    "adaptive": adaptive,
}


def build(name: str, threat: Threat, **options: Any) -> Attack:
    """The attack of that name in `ATTACKS`, with its options; or `torchattacks:NAME`.

    Raises:
        AttackError: an unknown name or option (the nearest known one is named), or a value out
            of range.
    """
    if name.startswith(PREFIX):
        if options:
            raise AttackError(f"{name} takes no options here, got {', '.join(options)}")
        return Torchattacks(threat, name.removeprefix(PREFIX))
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    known = [option for option in inspect.signature(ATTACKS[name]).parameters if option != "threat"]
    for option in options:
        if option not in known:
            if not known:
                raise AttackError(f"{name} has no options, got {option!r}")
            raise unknown(f"option of {name}", option, known)
    return ATTACKS[name](threat, **options)
