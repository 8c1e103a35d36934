import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

FIGURES = "accuracy", "pgd", "pgd_on_sra_images", "sra"
Row = dict[str, float]


def summary_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count, mean and standard deviation, as a run's results.json has them."""
    summary: dict[str, Any] = {"count": len(rows)}
    for name in FIGURES:
        values = [row[name] for row in rows if name in row]
        if values:
            summary[name] = {
                "count": len(values),
                "mean": statistics.fmean(values),
                "std": statistics.pstdev(values),
            }
    return summary


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    """Builds the results of a run from the rows of each kind of network."""

    def build(
        groups: Mapping[str, Sequence[Row]], sra_images: int = 100, image_error: float = 0.02
    ) -> dict[str, Any]:
        networks = [{"kind": kind, **row} for kind, rows in groups.items() for row in rows]
        with_sra = any("sra" in row for row in networks)
        return {
            "dataset": "digits",
            "attack": {
                "name": "pgd-50-1",
                "steps": 50,
                "threat": {"norm": "linf", "epsilon": 0.1},
                "images": 300,
            },
            "sra": {"images": sra_images} if with_sra else None,
            "all_images": 360,
            "num_classes": 10,
            "networks": networks,
            "measures": ["accuracy", "robustness"],
            "image_errors": {
                name: dict.fromkeys(groups, image_error) for name in ("accuracy", "pgd", "sra")
            },
            "summary": {kind: summary_of(rows) for kind, rows in groups.items()},
            "disagreement": {kind: 0.0123 for kind, rows in groups.items() if len(rows) > 1},
            "value_network": {},
            "objective": "value",
        }

    return build


@pytest.fixture
def run_result(make_result) -> dict[str, Any]:
    """A run with everything: SRA of the first two networks of a kind, baselines, voting."""

    def row(accuracy: float, pgd: float, *on_sra_images: float) -> Row:
        return dict(zip(FIGURES, (accuracy, pgd, *on_sra_images), strict=False))

    return make_result(
        {
            "sample": [row(0.991, 0.8, 0.77, 0.74), row(0.989, 0.79, 0.8, 0.75), row(0.983, 0.7)],
            "start": [row(0.1, 0.05, 0.04, 0.03)],
            "fbf": [row(0.987, 0.71, 0.7, 0.68), row(0.981, 0.72, 0.69, 0.69)],
            "fbf average": [row(0.9, 0.5, 0.48, 0.41)],
            "3 sample voting": [row(0.992, 0.81)],
        }
    )
