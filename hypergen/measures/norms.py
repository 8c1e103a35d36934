"""Threats of several norms, as the command line gives them."""

from typing import get_args

import attacks
from hypergen.data.threats import pixel_threat
from hypergen.errors import InputError
from hypergen.knob import parse_number
from hypergen.settings import Norm


def parse_norms(text: str) -> list[attacks.Threat]:
    """The threats of a text such as "linf=0.3,l2=1.5"; `InputError` for anything else."""
    threats: dict[str, attacks.Threat] = {}
    for each in text.split(","):
        norm, _, radius = each.strip().partition("=")
        if norm not in get_args(Norm):
            raise InputError(f'unknown norm "{norm:.60}"; known: {", ".join(get_args(Norm))}')
        if norm in threats:
            raise InputError(f"`norms` names {norm} twice")
        try:
            epsilon = parse_number(radius)
        except ValueError:
            raise InputError(
                f"`norms`: {norm} needs a radius, as in {norm}=0.3 or {norm}=8/255"
            ) from None
        threats[norm] = pixel_threat(norm, epsilon)
    return list(threats.values())
