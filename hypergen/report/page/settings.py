"""Settings as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hypergen.report.tables import MISSING, Table


def settings_table(config: Mapping[str, Any]) -> Table:
    """All settings of a config.json, one a row, named by their place in it."""
    return Table(("setting", "value"), [*_flat(config)])


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield path, ", ".join(map(str, value)) or MISSING
        else:
            yield path, MISSING if value is None else str(value)
