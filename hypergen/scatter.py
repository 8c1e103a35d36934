"""The picture of a population: accuracy against robustness."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scatter(networks: Sequence[dict[str, Any]], key: str = "robustness") -> "Figure":
    """Accuracy against robustness, one point a network, one colour a kind."""
    from matplotlib.figure import Figure  # here, for it takes a second that others need not spend

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(row["kind"] for row in networks):
        rows = [row for row in networks if row["kind"] == kind and key in row]
        many = len(rows) >= 8  # samples, not the few networks beside them
        axes.scatter(
            [100 * row[key] for row in rows],
            [100 * row["accuracy"] for row in rows],
            label=kind,
            s=24 if many else 60,
            marker="o" if many else "D",
            alpha=0.8,
        )
    name = {"sra": "SRA", "pgd": "PGD"}.get(key, key)
    axes.set_xlabel(f"{name} (% of attacked test images still classified correctly)")
    axes.set_ylabel("accuracy (% of test images)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
