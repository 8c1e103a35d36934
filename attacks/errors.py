"""What goes wrong in an attack, said in one line."""

from collections.abc import Iterable, Sequence


class AttackError(ValueError):
    """Bad input to an attack, or a model that cannot be attacked.

    Args:
        message: one line.
        networks: which of P it is about, [] for none in particular; shown after the message.
    """

    def __init__(self, message: str, networks: Sequence[int] = ()):
        super().__init__(message)
        self.networks = networks

    def __str__(self) -> str:
        suffix = f" (networks {list(self.networks)})" if self.networks else ""
        return super().__str__() + suffix


def unknown(kind: str, name: object, known: Iterable[str]) -> AttackError:
    """The error for a name that is none of `known`, which it lists."""
    return AttackError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
