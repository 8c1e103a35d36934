"""Whom one perturbation for all images fools: made for one architecture, tried on all others.

Ordinary, FBF and generated networks of several architectures, trained on the same images. For each
network a universal perturbation is fitted (see `hypergen.analysis.universal`) and tried on all, as
in table 2 of Moosavi-Dezfooli, Fawzi, Fawzi, Frossard 2017, "Universal adversarial perturbations".

    HYPERGEN_DATA=... python -m scripts.studies.universal_transfer
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hypergen.analysis.universal import RADIUS
from hypergen.config import TrainConfig
from hypergen.experiments.analyze import AnalyzeConfig, analyze_modules
from hypergen.report.tables import Table, percent
from hypergen.training.direct_config import Method
from scripts.common import (
    RESULTS,
    device,
    ensure_same_settings,
    load,
    publish,
    run,
)
from scripts.studies.networks import networks_of

WAYS: tuple[Method | None, ...] = "standard", "fbf", None
GENERATED = "generated"


@dataclass(frozen=True)
class TransferConfig:
    """Which networks there are, and on how many images they are tried."""

    quick: bool = False
    """architectures, trainings and images cut down to half a minute on one core"""
    train: TrainConfig = TrainConfig.of(dataset="mnist", steps=1000)
    """of the generators; the networks trained directly share data and radius"""
    targets: tuple[str, ...] = ("small-lenet5", "lenet5", "fbf-cnn", "mlp")
    """architectures"""
    epochs: int | None = 3
    """of the networks trained directly"""
    networks: int = 2
    """of each kind: seeds, or samples of one generator"""
    images: int = 500
    """test images"""
    work: Path = Path("runs/universal-transfer")
    """folder of the networks"""
    out: Path = RESULTS / "universal_transfer.json"
    """the figures as JSON"""


QUICK = TransferConfig(
    quick=True,
    train=TrainConfig.of(dataset="digits", image_size=8, steps=100),
    targets=("mlp",),
    epochs=5,
    images=50,
)


def matrix(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Shares fooled: by what was made for the first name, of the second; means over networks.

    On the diagonal by what was made for the network itself. "mates" are other networks of the same
    kind, None where there is one alone.
    """

    def mean(tried: str, of: Any) -> float | None:
        values = [of(row) for row in rows if row["group"] == tried]
        return None if None in values else round(statistics.fmean(values), 6)

    return {
        made: {
            tried: mean(tried, lambda r, m=made: r["own"] if r["group"] == m else r["by_others"][m])
            for tried in names
        }
        | {"mates": mean(made, lambda r: r["mates"])}
        for made in names
    }


def table(found: Mapping[str, Mapping[str, float | None]], config: TransferConfig) -> Table:
    """A row for what perturbations were made for, a column for what they are tried on."""
    lines = [
        (made, *("-" if value is None else percent(value, 0) for value in row.values()))
        for made, row in found.items()
    ]
    notes = [
        f"% of {config.images} test images whose class changes, means of {config.networks} a kind",
        f"perturbations of {RADIUS:g} times epsilon {config.train.threat.epsilon:g}",
        "rows: made for; columns: tried on; mates: on other networks of the same kind",
    ]
    return Table(("made for", *found, "mates"), lines, notes)


def main(config: TransferConfig) -> None:
    """Trains and tries all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    groups: dict[str, list[nn.Module]] = {}
    for method, target in itertools.product(WAYS, config.targets):
        kind, train = f"{target} {method or GENERATED}", config.train.replace(target=target)
        asked = config.work / kind.replace(" ", "-"), method, train, config.networks, dataset
        groups[kind] = list(networks_of(*asked, epochs=config.epochs))
    options = AnalyzeConfig(what=("universal",), count=config.networks, images=config.images)
    result = analyze_modules(groups, options, None, dataset)
    found = matrix(result["analyses"]["universal"]["rows"], [*groups])
    print(table(found, config))
    publish(config.out, settings, {"made_for": found})


if __name__ == "__main__":
    run(main, TransferConfig, __doc__, QUICK)
