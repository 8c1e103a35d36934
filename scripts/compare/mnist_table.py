"""MNIST table and picture: generated networks beside directly trained ones, under SRA.

Accuracy and PGD-50 are over all 10,000 test images. SRA is over the first 1,000, for 8 samples of
each generator and for every baseline; what each of its attacks leaves stands beside it. Every row
is made and judged by `hypergen` commands whose files are kept, so a killed run of this script
continues where it was; `--rows` makes these anew and leaves the others. One core takes about two
hours a generator.

    HYPERGEN_DATA=... python -m scripts.compare.mnist_table --epsilon 0.2
"""

import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attacks
from hypergen import data
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import CALIBRATION_IMAGES
from hypergen.evaluation.statistics import summarise
from hypergen.experiments.competitors import trivial_competitors
from hypergen.report.scatter import scatter
from hypergen.storage.atomic import read_json
from hypergen.storage.results_cache import ResultsCache
from hypergen.storage.weights import load_network, read_metadata, save_network
from scripts.common import (
    RESULTS,
    cached_json,
    chosen,
    device,
    ensure_same_settings,
    hypergen,
    publish,
    run,
    surroundings,
    train_or_load,
    try_all,
)
from targets import Ensemble, Population

Rows = list[dict[str, Any]]
VOTING = "direct voting"
DIRECT = ("standard", "fbf", "n-fgsm", "pgd", "trades")
"""Rows whose networks are trained on their own weights."""
TRIVIAL = ("fbf + noise", "fbf average")
"""Rows whose networks are made of FBF networks without any training."""
BASE = "standard-0/network.safetensors"
JUDGED = ("epsilon", "dataset", "target", "samples", "sra_samples", "images")
"""Settings that all rows of a table share; how each was trained is in its commands."""


@dataclass(frozen=True)
class TableConfig:
    """What is trained, and how hard it is judged."""

    epsilon: float = 0.1
    """radius of the threat, Linf"""
    rows: tuple[str, ...] = ()
    """to make: standard, fbf, n-fgsm, pgd, trades, direct, direct beta .9, value, value from
    scratch, thesis, fbf + noise, fbf average, direct voting; default: all (thesis: at epsilon
    0.1)"""
    dataset: str = "mnist"
    """data set"""
    target: str = "small-lenet5"
    """architecture"""
    seeds: int = 3
    """FBF and PGD-trained networks"""
    generators: int = 1
    """of each kind, from seed 0 on; the published protocol has one"""
    epochs: int = 10
    """of direct training"""
    direct_steps: int = 3000
    """generator steps of the direct objective"""
    long_steps: int = 9000
    """of it with beta .9, to set beside PGD training"""
    value_steps: int = 1500
    """generator steps of the value objective"""
    thesis_steps: int = 1000
    """generator steps of the published protocol"""
    thesis_images: int = 10_000
    """images a measurement of the published protocol"""
    samples: int = 32
    """networks drawn from each generator, for accuracy and PGD-50"""
    sra_samples: int = 8
    """of them, for SRA"""
    voters: int = 10
    """of the first generator's, voting together"""
    images: int = 1000
    """test images for SRA"""
    work: Path = Path("runs/mnist-table")
    """folder of the runs"""
    out: Path = RESULTS
    """folder of the table and the picture"""

    @property
    def folder(self) -> Path:
        """Of the runs at this radius."""
        return self.work / f"epsilon-{self.epsilon:g}"

    @property
    def table(self) -> Path:
        """The figures at this radius; the picture is beside it."""
        return self.out / f"mnist-{self.epsilon:g}.json"


def commands(config: TableConfig) -> dict[str, list[list[str]]]:
    """The commands that make each row's networks, by the row's name."""
    what = ["--dataset", config.dataset, "--target", config.target]
    what += ["--epsilon", str(config.epsilon)]
    rows = {}
    for method in DIRECT:
        command = ["baseline", *what, "--method", method, "--epochs", str(config.epochs)]
        seeds = range(1 if method == "standard" else config.seeds)
        rows[method] = [[*command, "--seed", str(seed)] for seed in seeds]
    train = ["train", *what, "--no-baseline", "--samples", str(config.samples)]
    train += ["--images", "10", "--sra-samples", "0"]  # judged below
    base = ["--base", str(config.folder / BASE)]
    value = [*train, "--objective", "value", "--steps", str(config.value_steps)]
    direct = [*train, "--objective", "direct", "--steps"]
    for name, command in (
        ("direct", [*direct, str(config.direct_steps)]),
        ("direct beta .9", [*direct, str(config.long_steps), "--beta=0.9", "--base=none"]),
        ("value", [*value, *base, "--learning-rate", "1e-3"]),
        ("value from scratch", value),
    ):
        rows[name] = [[*command, "--seed", str(seed)] for seed in range(config.generators)]
    if config.epsilon == 0.1:
        thesis = [*train, "--preset", "thesis", *base, "--steps", str(config.thesis_steps)]
        rows["thesis"] = [[*thesis, "--batch-size", str(config.thesis_images)]]
    return rows


def networks(config: TableConfig, name: str) -> list[list[Path]]:
    """The weight files of a row, a list a training, made unless they are there."""
    if name in TRIVIAL:
        return [trivial(config, name)]
    groups = []
    if name in ("value", "thesis"):
        networks(config, "standard")  # which they start from
    for number, command in enumerate(commands(config)[name]):
        groups.append(train_or_load(config.folder / f"{name.replace(' ', '-')}-{number}", command))
    return groups


def trivial(config: TableConfig, name: str) -> list[Path]:
    """The weight files of what costs nothing, written anew; noise of the size of `direct`'s."""
    first, *_ = files = [file for (file,) in networks(config, "fbf")]
    fbf, samples = (
        Population.of(map(load_network, some)) for some in (files, networks(config, "direct")[0])
    )
    images = data.load(config.dataset).calibration_images(CALIBRATION_IMAGES)
    group = trivial_competitors(fbf, samples, images, seed=0)[name]
    paths = [config.folder / f"{name.replace(' ', '-')}-{i}.safetensors" for i in range(len(group))]
    for path, network in zip(paths, group, strict=True):
        save_network(path, network.state_dict(), read_metadata(first))
    return paths


def judged(path: Path, files: list[Path], *attack: str) -> dict[str, Any]:
    """What `hypergen evaluate` finds of the weight files, or an earlier call found."""
    if not path.exists():
        hypergen(["evaluate", *map(str, files), "--restarts", "1", *attack, "--json", str(path)])
    return read_json(path)


def row(config: TableConfig, name: str) -> dict[str, Any]:
    """Judges the networks of a row, or reads what an earlier call found.

    Each generator's samples are judged by themselves, so that how far samples differ is not told of
    those of different generators; networks that were trained alone are judged together.
    """
    groups = networks(config, name)
    seeds = {file: seed for seed, group in enumerate(groups) for file in group}
    if all(len(group) == 1 for group in groups):
        groups = [list(seeds)]
    points, strong, weak = [], [], []
    for number, group in enumerate(groups):
        few = group if name in DIRECT else group[: config.sra_samples]
        path = config.folder / f"{name.replace(' ', '-')}-{number}"
        by_pgd = ("--attack", "pgd", "--images", "10000")
        by_standard = ("--attack", "standard", "--images", str(config.images))
        pgd = judged(path.with_name(f"{path.name}-pgd.json"), group, *by_pgd)
        sra = judged(path.with_name(f"{path.name}-sra.json"), few, *by_standard)
        weak.append(pgd["summary"])
        strong += sra["networks"]
        for index, (file, network) in enumerate(zip(group, pgd["networks"], strict=True)):
            point = {"kind": name, "seed": seeds[file]}
            point |= {key: network[key] for key in ("accuracy", "pgd")}
            if index < len(few):
                point |= {key: sra["networks"][index][key] for key in ("sra", "after")}
            points.append(point)
    summary = summary_of(config, name, points, strong, weak)
    # As in the tables published, which say nothing of the split: it always is that of test images.
    attack = {key: value for key, value in sra["attack"].items() if key != "split"}
    return {"summary": summary, "networks": points, "attack": attack}


def summary_of(
    config: TableConfig, name: str, points: Rows, strong: Rows, weak: Rows
) -> dict[str, Any]:
    """A row's commands and its means.

    points: all networks; strong: those judged by SRA; weak: summaries under PGD, group by group.
    """
    trainings = [] if name in TRIVIAL else commands(config)[name]
    lines = [shlex.join(["hypergen", *command]) for command in trainings]
    return {
        "commands": [line.replace(f"{config.folder}/", "") for line in lines],
        **surroundings(),
        **summarise(points),
        **{
            key: statistics.fmean(one[key] for one in weak)
            for key in ("disagreement", "error_overlap")
            if key in weak[0]
        },
        # PGD on the images of SRA too, so that their difference is no matter of chance.
        "pgd_beside_sra": summarise(strong)["pgd"],
        "after": {
            attack: statistics.fmean(network["after"][attack] for network in strong)
            for attack in strong[0]["after"]
        },
    }


def voting(config: TableConfig) -> dict[str, Any]:
    """Some samples of `direct` as one classifier; under PGD-50 too on the images of SRA alone."""
    files = networks(config, "direct")[0][: config.voters]
    ensemble = Ensemble(Population.of(load_network(file).to(device()) for file in files))
    cache = ResultsCache(config.folder / "direct-voting.masks.jsonl")
    threat = attacks.Threat("linf", config.epsilon)
    evaluator = Evaluator(threat, "standard", restarts=1, images=config.images, cache=cache)
    (found,) = evaluator.evaluate(ensemble, data.load(config.dataset, device=device()))
    return {"networks": len(files), "images": config.images, **found}


def others(config: TableConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """The table as it is, to be added to; `InputError` if it was judged in another way."""
    if not config.table.exists():
        return {"summary": {}, "networks": []}
    table: dict[str, Any] = read_json(config.table)
    if table["settings"] != settings:
        raise InputError(f"{config.table} was judged in another way; choose another --out")
    return table


def add(config: TableConfig, table: dict[str, Any], name: str, new: dict[str, Any]) -> None:
    """Puts a row into the table; `InputError` if it was judged by other attacks."""
    if table.setdefault("attack", new["attack"]) != new["attack"]:
        raise InputError(f"{config.table} is of other attacks; choose another --out")
    table["summary"][name] = new["summary"]
    table["networks"] = [point for point in table["networks"] if point["kind"] != name]
    table["networks"] += new["networks"]


def show(summary: dict[str, Any]) -> None:
    """Prints the table."""
    print(f"\n{'':<20}{'nets':>5}{'accuracy':>16}{'PGD-50':>16}{'SRA':>16}{'disagree':>10}")
    for name, own in summary.items():
        cells = [
            f"{100 * own[key]['mean']:.1f} +- {100 * own[key]['std']:.1f}"
            for key in ("accuracy", "pgd", "sra")
        ]
        disagreement = 100 * own.get("disagreement", float("nan"))
        shown = "".join(f"{c:>16}" for c in cells)
        print(f"{name:<20}{own['count']:>5}{shown}{disagreement:>10.2f}")


def main(config: TableConfig) -> None:
    """Makes every row, prints the table and writes it."""
    ensure_same_settings(config.folder, config)
    settings = {key: getattr(config, key) for key in JUDGED}
    known = (*commands(config), *TRIVIAL, VOTING)
    names = chosen(config.rows, known)
    table = others(config, settings)

    def make(name: str) -> dict[str, Any]:
        if name == VOTING:
            return cached_json(config.folder / "direct-voting.json", lambda: voting(config))
        return row(config, name)

    found, failed = try_all(names, make)
    if VOTING in found:
        table["voting"] = found.pop(VOTING)
    for name, new in found.items():
        add(config, table, name, new)
    table["summary"] = {name: table["summary"][name] for name in known if name in table["summary"]}
    table["networks"].sort(key=lambda point: known.index(point["kind"]))
    show(table["summary"])
    aside = {"standard", "thesis", *TRIVIAL}  # far from all others
    near = [point for point in table["networks"] if point["kind"] not in aside]
    about = f"{config.dataset}, {config.target}, linf, epsilon {config.epsilon:g}"
    title = f"Generated and directly trained networks\n{about}, SRA on {config.images} test images"
    publish(config.table, settings, table | surroundings(), failed, scatter(near, "sra", title))


if __name__ == "__main__":
    run(main, TableConfig, __doc__)
