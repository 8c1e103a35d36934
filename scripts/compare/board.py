"""Puts the single networks of the MNIST tables on the board in docs/board.

    python -m scripts.compare.board

Of every table (scripts/results/mnist-EPSILON.json) these are the networks that were trained
directly, of each kind with seeds 0 and 1, as judged there: accuracy on all test images, SRA on the
first 1,000. How many gradients their training took follows from their command; what seconds it took
was not written down.
Further rows are added by `hypergen board add FILE --out docs/board` and stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import targets
from hypergen import data
from hypergen.cli import baseline
from hypergen.experiments.board import KEY, read_board, write_board
from hypergen.experiments.made_by import recipe
from hypergen.models.bundle import fresh_target
from hypergen.report.intervals import interval
from hypergen.storage.atomic import read_json
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from scripts.common import RESULTS, run

EPSILONS = "0.1", "0.2", "0.3"
KINDS = "standard", "fbf", "pgd"
SEEDS = 2
BOARD = RESULTS.parents[1] / "docs" / "board"


@dataclass(frozen=True)
class BoardConfig:
    """Where the board is."""

    out: Path = BOARD
    """its folder"""


def rows_of(name: str, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a table: networks of a kind are in the order of the commands that made them."""
    for kind in KINDS:
        networks = [each for each in result["networks"] if each["kind"] == kind]
        commands = result["summary"][kind]["commands"][:SEEDS]
        for network, command in zip(networks, commands, strict=False):
            yield row_of(network, command, result["attack"]) | {"source": f"scripts/results/{name}"}


def row_of(network: dict[str, Any], command: str, attack: dict[str, Any]) -> dict[str, Any]:
    """The row of a network, but for its source; figures were kept in few bits."""
    settings, _ = baseline.COMMAND.parse("baseline", command.split()[2:])
    config: BaselineConfig = settings["training"]
    dataset = data.load(config.data.name)
    plan = DirectPlan.of(config, dataset.info, len(dataset.train))
    module = fresh_target(config.target, config.activation, dataset.info)
    sra = round(network["sra"], 6)
    return {
        "name": f"{config.method}-{config.seed}",
        "dataset": config.data.name,
        "norm": attack["threat"]["norm"],
        "epsilon": attack["threat"]["epsilon"],
        "target": config.target,
        "activation": config.activation,
        "weights": targets.WeightLayout.of(module).size,
        "seconds": None,
        "trained_on": None,
        "gradient_evaluations": plan.gradient_evaluations,
        "recipe": recipe(plan.metadata()),
        "command": f"{command} --out OUT",
        "file": "network.safetensors",
        "sha256": None,
        "accuracy": round(network["accuracy"], 6),
        "test_images": len(dataset.test),
        "sra": sra,
        "interval": interval(sra, attack["images"]),
        "images": attack["images"],
        "after": {each: round(share, 6) for each, share in network["after"].items()},
    }


def main(config: BoardConfig) -> None:
    """Writes the rows among those that are there already."""
    names = [f"mnist-{epsilon}.json" for epsilon in EPSILONS]
    rows = [row for name in names for row in rows_of(name, read_json(RESULTS / name))]
    keys = [[row[name] for name in KEY] for row in rows]
    others = [row for row in read_board(config.out) if [row[name] for name in KEY] not in keys]
    write_board(config.out, [*others, *rows])
    print(f"{len(rows)} rows of tables, {len(others)} others in {config.out}")


if __name__ == "__main__":
    run(main, BoardConfig, __doc__)
