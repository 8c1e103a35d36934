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


def shown(value: object) -> str:
    """The value as a message shows it: on one line of at most 60 characters, whatever it is."""
    try:
        return f"{' '.join(repr(value).split()):.60}"
    except ValueError:  # Python prints no whole number of very many digits
        return f"a {type(value).__name__} of very many digits"


def require_known(kind: str, name: object, known: Iterable[str]) -> None:
    """Raises AttackError unless the name is one of `known`; it may be no text at all."""
    known = tuple(known)
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)


def unknown(kind: str, name: object, known: Iterable[str]) -> AttackError:
    """The error for a name that is none of `known`, which it lists."""
    return AttackError(f"unknown {kind} {shown(name)}; known: {', '.join(known)}")
