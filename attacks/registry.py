"""Attacks by name."""

import inspect
from collections.abc import Callable
from functools import partial
from inspect import Parameter
from typing import Any

from attacks.adaptive import adaptive
from attacks.apgd import APGD, TargetedAPGD
from attacks.base import Attack
from attacks.carlini_wagner import CarliniWagner
from attacks.deepfool import DeepFool
from attacks.eot import EOTPGD
from attacks.errors import AttackError, shown, unknown
from attacks.external import PREFIX, Torchattacks
from attacks.fab import TargetedFAB
from attacks.fgsm import FGSM, RandomFGSM
from attacks.lbfgs import LBFGS
from attacks.momentum import MomentumFGSM
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rays import RayS
from attacks.sampling import SamplingGradient
from attacks.square import Square
from attacks.suite import quick, standard
from attacks.threat import Threat

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
"""Names to what makes the attack of a threat, and of options by name. Anyone may add to it."""


def build(name: str, threat: Threat, **options: Any) -> Attack:
    """The attack of that name in `ATTACKS`, with its options; or `torchattacks:NAME`.

    Raises:
        AttackError: an unknown name or option (the known ones are listed), or a value out of range.
    """
    if not isinstance(name, str):
        raise AttackError(f"expected an attack's name, or an Attack, got {shown(name)}")
    if name.startswith(PREFIX):
        if options:
            raise AttackError(f"{name} takes no options here, got {', '.join(options)}")
        return Torchattacks(threat, name.removeprefix(PREFIX))
    if name not in ATTACKS:
        raise unknown("attack", name, (*ATTACKS, f"{PREFIX}NAME"))
    if not isinstance(threat, Threat):
        raise AttackError(f'expected a threat, Threat("linf", 0.1) say, got {shown(threat)}')
    _check_options(name, options)
    attack = ATTACKS[name](threat, **options)
    if not isinstance(attack, Attack):
        raise AttackError(f"expected {name} to make an Attack, got {type(attack).__name__}")
    return attack


def _check_options(name: str, options: dict[str, Any]) -> None:
    """Raises AttackError for options that the attack of that name does not have, or lacks."""
    # The first parameter is the threat.
    parameters = list(inspect.signature(ATTACKS[name]).parameters.values())[1:]
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return  # it checks them itself
    known = {parameter.name: parameter for parameter in parameters}
    for option in options:
        if not known:
            raise AttackError(f"{name} has no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and option not in options:
            raise AttackError(f"{name} needs the option {option!r}")
