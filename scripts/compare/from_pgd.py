"""Generators trained for robustness alone, beside PGD training.

A run starts from a network by PGD training and goes on with the same attack (`--beta 1`). Every
seed is a run of its own, start included, whose figures are those of its report: accuracy over all
test images, PGD-50 and SRA over as many as are named, SRA of some samples. PGD-trained networks are
those of the MNIST tables. Runs are kept: a killed call goes on.

    HYPERGEN_DATA=... python -m scripts.compare.from_pgd
"""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypergen.experiments.run_folder import RESULTS as REPORT
from hypergen.report.tables import Table, percent
from hypergen.storage.atomic import read_json
from scripts.common import RESULTS, ensure_same_settings, publish, rows, run, train_or_load

OPTIONS = (
    "--dataset mnist --beta 1 --epsilon-factor 1.2 --steps 4200 "
    "--measure-every 5000 --max-robustness-gap 1"
)
FIGURES = "accuracy", "pgd", "sra"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class FromPGDConfig:
    """What is trained, and how hard it is judged."""

    epsilons: tuple[float, ...] = (0.1, 0.2, 0.3)
    """radii of the threat, linf"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the runs"""
    options: str = OPTIONS
    """of all runs"""
    samples: int = 8
    """networks drawn from each generator"""
    sra_samples: int = 4
    """of them, for SRA"""
    images: int = 1000
    """test images for SRA and PGD-50"""
    tables: Path = RESULTS
    """folder of the MNIST tables, which networks by PGD training are from"""
    only: tuple[str, ...] = ()
    """runs to make now, such as 0.3-1 of radius 0.3 and seed 1, beside those made before; default:
    all"""
    work: Path = Path("runs/from-pgd")
    """folder of the runs"""
    out: Path = RESULTS / "from-pgd.json"
    """the figures as JSON"""


def command(config: FromPGDConfig, epsilon: float, seed: int) -> list[str]:
    """What trains a generator and judges its samples."""
    sizes = ["--samples", str(config.samples), "--sra-samples", str(config.sra_samples)]
    sizes += ["--images", str(config.images), "--sra-images", str(config.images)]
    what = ["--epsilon", f"{epsilon:g}", "--seed", str(seed)]
    return ["train", *shlex.split(config.options), *what, "--no-baseline", *sizes]


def row(config: FromPGDConfig, name: str) -> dict[str, Any]:
    """What the report of a run says of its samples and of their start; name: radius and seed."""
    epsilon, seed = name.split("-")
    line, folder = command(config, float(epsilon), int(seed)), config.work / name
    train_or_load(folder, line)
    report = read_json(folder / REPORT)
    networks = [
        {key: network[key] for key in ("kind", *FIGURES) if key in network}
        for network in report["networks"]
        if network["kind"] in ("sample", "start")
    ]
    told = {"command": shlex.join(["hypergen", *line]), "attack": report["attack"]}
    return told | {"networks": networks, "disagreement": report["disagreement"]["sample"]}


def by_pgd_training(config: FromPGDConfig, epsilon: float) -> Rows:
    """The networks by PGD training in a table of MNIST, if there is one."""
    path = config.tables / f"mnist-{epsilon:g}.json"
    points = read_json(path)["networks"] if path.exists() else []
    return [point for point in points if point["kind"] == "pgd"]


def line(name: str, networks: Rows, means: Sequence[Rows] = (), apart: float | None = None) -> Any:
    """Means of networks; the SRA of each seed beside that of all."""
    shown = []
    for figure in FIGURES:
        known = [network[figure] for network in networks if figure in network]
        shown.append(percent(statistics.fmean(known), 1) if known else "")
    seeds = ", ".join(
        percent(statistics.fmean(each["sra"] for each in group if "sra" in each), 1)
        for group in means
    )
    return name, str(len(networks)), *shown, seeds, "" if apart is None else percent(apart, 2)


def table(config: FromPGDConfig, found: Mapping[str, dict[str, Any]]) -> Table:
    """Samples, their starts and networks by PGD training at each radius."""
    lines = []
    for epsilon in config.epsilons:
        runs = [each for name, each in found.items() if name.split("-")[0] == f"{epsilon:g}"]
        if not runs:
            continue
        for kind in ("sample", "start"):
            groups = [[n for n in each["networks"] if n["kind"] == kind] for each in runs]
            apart = statistics.fmean(each["disagreement"] for each in runs)
            names = {"sample": "samples", "start": "their starts"}
            lines.append(
                line(
                    f"{epsilon:g} {names[kind]}",
                    [network for group in groups for network in group],
                    groups,
                    apart if kind == "sample" else None,
                )
            )
        if trained := by_pgd_training(config, epsilon):
            lines.append(line(f"{epsilon:g} PGD training", trained, [[each] for each in trained]))
    headers = ("epsilon", "networks", "accuracy", "PGD-50", "SRA", "of each seed", "disagree")
    note = f"% of test images; PGD-50 and SRA on {config.images}, PGD-50 of PGD training on all"
    return Table(headers, lines, [note])


def main(config: FromPGDConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    names = [f"{epsilon:g}-{seed}" for epsilon in config.epsilons for seed in config.seeds]
    found, failed = rows(config, names, lambda name: row(config, name))
    print(table(config, found))
    publish(config.out, settings, {"runs": found}, failed)


if __name__ == "__main__":
    run(main, FromPGDConfig, __doc__)
