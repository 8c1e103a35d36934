"""Holds the registries: all that can be named, whichever floor it belongs to.

Targets, activations and attacks are those of their packages. What a higher floor makes (generators,
value networks, measures, analyses) is added by that floor when it is imported.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec
from hypergen.registry import Registry


def _targets() -> dict[str, Any]:
    import targets  # here, for it imports torch, which takes a second

    return targets.TARGETS


def _activations() -> dict[str, Any]:
    import targets

    return targets.ACTIVATIONS


def _activation_family(name: str) -> Callable[[int], Any] | None:
    """KAFs of another size and k-WTA of another share, such as kaf-elu-40 and kwta-0.1."""
    import targets

    if name.partition("-")[0] != "kwta" and targets.unsized(name) == name:
        return None
    return targets.activation_factory(name)


def _attacks() -> dict[str, Any]:
    import attacks

    return attacks.ATTACKS


def _external_attack(name: str) -> Callable[..., Any] | None:
    import attacks
    from attacks.external import PREFIX

    return partial(attacks.build, name) if name.startswith(PREFIX) else None


TARGETS: Registry[Any] = Registry("target", _targets)
ACTIVATIONS: Registry[Any] = Registry("activation", _activations, _activation_family)
ATTACKS: Registry[Any] = Registry("attack", _attacks, _external_attack)
GENERATORS: Registry[Any] = Registry("generator", {})
VALUE_NETWORKS: Registry[Any] = Registry("value network", {})
MEASURES: Registry[Any] = Registry("measure", {})
ANALYSES: Registry[Any] = Registry("analysis", {})


def measure_parts(spec: MeasureSpec) -> list[tuple[Registry[Any], str]]:
    """What a measure is made of that can be registered: itself, and an attack that it names."""
    parts: list[tuple[Registry[Any], str]] = [(MEASURES, spec.kind)]
    if spec.kind in ("robustness", "union") and "attack" in spec.options:
        parts.append((ATTACKS, str(spec.options["attack"])))
    return parts


def call_by_name(function: Callable[..., Any], /, **available: Any) -> Any:
    """Calls a class or function with those of the arguments that it takes by name.

    Everything is handed over where it takes **keywords. `InputError`: it wants another argument.
    """
    takes = inspect.signature(function).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    several = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    for name, parameter in takes.items():
        needed = parameter.default is parameter.empty and parameter.kind not in several
        if needed and name not in available:
            raise InputError(
                f"{getattr(function, '__name__', function)} wants an argument {name}; "
                f"it may take any of {', '.join(available)}"
            )
    return function(**{n: v for n, v in available.items() if anything or n in takes})
