"""What it took to make what a page is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypergen.report.page.blocks import Block, Code, Figures
from hypergen.report.tables import Table

FROM_PYTHON = "called from Python"


def session_blocks(result: Mapping[str, Any]) -> list[Block]:
    """The commands as they were typed, the time that each took, and the machine.

    result: what results.json holds; of older versions it has none of this.
    """
    rows: Sequence[Mapping[str, Any]] = result.get("sessions", [])
    if not rows:
        return []
    cells = [
        (
            str(place),
            f"{row['seconds']:,.1f}",
            row["device"],
            str(row["cores"]),
            row["python"],
            row["torch"],
        )
        for place, row in enumerate(rows, 1)
    ]
    headers = "call", "seconds", "device", "cores", "Python", "PyTorch"
    total = sum(row["seconds"] for row in rows)
    calls = "in one call" if len(rows) == 1 else f"in {len(rows)} calls"
    typed = "\n".join(row["command"] or FROM_PYTHON for row in rows)
    return [
        Code("As it was typed", typed),
        Figures(f"{total:,.1f} seconds by the clock, {calls}", Table(headers, cells)),
    ]
