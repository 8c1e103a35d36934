"""What goes wrong in an attack, said in one line."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class AttackError(ValueError):
    """Bad input to an attack, or a model that cannot be attacked.

    Args:
        message: one line.
        networks: which of P it is about, [] for none in particular; told after the message.
    """

    def __init__(self, message: str, networks: Sequence[int] = ()):
        super().__init__(message)
        self.networks = networks

    def __str__(self) -> str:
        told = f" (networks {list(self.networks)})" if self.networks else ""
        return super().__str__() + told


def unknown(what: str, given: object, known: Iterable[str]) -> AttackError:
    """The error for a name that is none of `known`, with the nearest of them."""
    names = {name.lower(): name for name in known}
    nearest = names[get_close_matches(str(given).lower(), names, n=1, cutoff=0.0)[0]]
    return AttackError(
        f"unknown {what} {given!r}: did you mean {nearest!r}? (known: {', '.join(names.values())})"
    )


def require_norm(name: str, norm: str, known: Sequence[str]) -> None:
    """Raises AttackError unless the norm is one that the attack of that name knows."""
    if norm not in known:
        norms = f"norms {' and '.join(known)}" if len(known) > 1 else f"norm {known[0]}"
        raise AttackError(f"{name} knows the {norms} only, got {norm!r}")


def require_counts(**options: int) -> None:
    """Raises AttackError unless every option is a whole number of at least 1."""
    for name, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise AttackError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def require_positive(**options: float) -> None:
    """Raises AttackError unless every option is a finite number above 0."""
    for name, value in options.items():
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise AttackError(f"expected {name} to be a finite number above 0, got {value!r}")
