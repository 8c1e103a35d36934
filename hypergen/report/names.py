"""Short names of paths that stand side by side."""

from collections.abc import Sequence


def tails(names: Sequence[str]) -> dict[str, str]:
    """By name the fewest last parts of its path that no other name ends with.

    "a/run", "b/run" and "b/c" become "a/run", "b/run" and "c". What follows a path, as in
    "a/run: sample", stays, without any of the path where it says enough.
    """
    paths = {}
    for name in names:
        path, colon, kind = name.rpartition(": ")
        parts = (path if colon else name).rstrip("/").split("/")
        paths[name] = parts, kind if colon else None

    def tail(name: str, count: int) -> str:
        parts, kind = paths[name]
        if kind is not None and not count:
            return kind
        path = "/".join(parts[-max(count, 1) :])
        return path if kind is None else f"{path}: {kind}"

    found = {}
    for name, (parts, _) in paths.items():
        others = [other for other in paths if other != name]
        counts = range(len(parts) + 1)
        unique = (n for n in counts if tail(name, n) not in {tail(each, n) for each in others})
        found[name] = tail(name, next(unique, len(parts)))
    return found
