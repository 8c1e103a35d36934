"""MNIST table and picture: generated networks beside directly trained ones, under SRA.

Accuracy is over all 10,000 test images; so is PGD-50. SRA is over the first 1,000, for 8 samples of
each generator and for every baseline, what each of its attacks leaves beside it. Every row is made
and judged by `hypergen` commands whose files are kept, so a killed run of this script continues
where it was; `--rows` makes these anew and leaves the table's others. A generator takes one core
about two hours, most of them in the standard attacks.

    HYPERGEN_DATA=... python -m scripts.mnist_table --epsilon 0.2
"""

import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attacks
from hypergen import data
from hypergen.errors import InputError
from hypergen.evaluate import Judge, summarise
from hypergen.record import Bits
from hypergen.report import trivial_competitors
from hypergen.sample import CALIBRATION_IMAGES
from hypergen.scatter import scatter
from hypergen.tracking import read_json
from hypergen.weights_file import load_network, read_metadata, save_network
from scripts.cells import (
    RESULTS,
    attempted,
    chosen,
    claim,
    device,
    hypergen,
    kept,
    made,
    publish,
    run,
    surroundings,
)
from targets import Ensemble, Population

VOTING = "direct voting"
DIRECT = ("standard", "fbf", "pgd")
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
    """to make: standard, fbf, pgd, direct, direct beta .9, value, value from scratch, thesis,
    fbf + noise, fbf average, direct voting; default: all (thesis: at epsilon .1)"""
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
    rows = {
        method: [
            ["baseline", *what, "--method", method, "--epochs", str(config.epochs)]
            + ["--seed", str(seed)]
            for seed in range(1 if method == "standard" else config.seeds)
        ]
        for method in DIRECT
    }
    train = ["train", *what, "--no-baseline", "--samples", str(config.samples)]
    train += ["--images", "10", "--sra-samples", "0"]  # judged below
    base = ["--base", str(config.folder / BASE)]
    value = [*train, "--objective", "value", "--steps", str(config.value_steps)]
    direct = [*train, "--objective", "direct", "--steps"]
    for name, command in (
        ("direct", [*direct, str(config.direct_steps)]),
        ("direct beta .9", [*direct, str(config.long_steps), "--beta", "0.9"]),
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
        groups.append(made(config.folder / f"{name.replace(' ', '-')}-{number}", command))
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
    for index, path in enumerate(paths):
        save_network(path, group.module_at(index).state_dict(), read_metadata(first))
    return paths


def judged(path: Path, files: list[Path], *attack: str) -> dict[str, Any]:
    """What `hypergen evaluate` finds of the weight files, or an earlier call found."""
    if not path.exists():
        hypergen(["evaluate", *map(str, files), "--restarts", "1", *attack, "--json", str(path)])
    return read_json(path)


def row(config: TableConfig, name: str) -> dict[str, Any]:
    """Judges the networks of a row, or reads what an earlier call found.

    Each generator's samples by themselves, so that how far samples differ is not told of those of
    different generators; networks that were trained alone together.
    """
    groups = networks(config, name)
    seeds = {file: seed for seed, group in enumerate(groups) for file in group}
    if all(len(group) == 1 for group in groups):
        groups = [list(seeds)]
    points, strong, apart = [], [], []
    for number, group in enumerate(groups):
        few = group if name in DIRECT else group[: config.sra_samples]
        cell = f"{name.replace(' ', '-')}-{number}"
        pgd = judged(
            config.folder / f"{cell}-pgd.json", group, "--attack", "pgd", "--images", "10000"
        )
        sra = judged(
            config.folder / f"{cell}-sra.json",
            few,
            *("--attack", "standard", "--images", str(config.images)),
        )
        apart.append(pgd["summary"])
        strong += sra["networks"]
        for place, (file, network) in enumerate(zip(group, pgd["networks"], strict=True)):
            point = {"kind": name, "seed": seeds[file]}
            point |= {key: network[key] for key in ("accuracy", "pgd")}
            if place < len(few):
                point |= {key: sra["networks"][place][key] for key in ("sra", "after")}
            points.append(point)
    trainings = [] if name in TRIVIAL else commands(config)[name]
    summary = {
        "commands": [
            shlex.join(["hypergen", *command]).replace(f"{config.folder}/", "")
            for command in trainings
        ],
        **surroundings(),
        **summarise(points),
        **{
            key: statistics.fmean(one[key] for one in apart)
            for key in ("disagreement", "error_overlap")
            if key in apart[0]
        },
        # PGD on the images of SRA too, so that their difference is no matter of chance.
        "pgd_beside_sra": summarise(strong)["pgd"],
        "after": {
            attack: statistics.fmean(network["after"][attack] for network in strong)
            for attack in strong[0]["after"]
        },
    }
    return {"summary": summary, "networks": points, "attack": sra["attack"]}


def voting(config: TableConfig) -> dict[str, Any]:
    """Some samples of `direct` as one classifier; under PGD-50 too on the images of SRA alone."""
    files = networks(config, "direct")[0][: config.voters]
    together = Ensemble(Population.of(load_network(file).to(device()) for file in files))
    bits = Bits(config.folder / "direct-voting.survivors.jsonl")
    threat = attacks.Threat("linf", config.epsilon)
    judge = Judge(threat, "standard", 50, 1, config.images, bits=bits)
    (found,) = judge.judge(together, data.load(config.dataset, device=device()), "voting")
    return {"networks": len(files), "images": config.images, **found}


def others(config: TableConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """The table as it is, to be added to; `InputError` if it was judged in another way."""
    if not config.table.exists():
        return {"summary": {}, "networks": []}
    table: dict[str, Any] = read_json(config.table)
    if table["settings"] != settings:
        raise InputError(f"{config.table} was judged in another way; choose another --out")
    return table


def main(config: TableConfig) -> None:
    """Makes every row, prints the table and writes it."""
    claim(config.folder, config)
    settings = {key: getattr(config, key) for key in JUDGED}
    known = (*commands(config), *TRIVIAL, VOTING)
    names = chosen(config.rows, known)
    table = others(config, settings)

    def make(name: str) -> dict[str, Any]:
        if name == VOTING:
            return kept(config.folder / "direct-voting.json", lambda: voting(config))
        return row(config, name)

    found, failed = attempted(names, make)
    if VOTING in found:
        table["voting"] = found.pop(VOTING)
    for name, new in found.items():
        if table.setdefault("attack", new["attack"]) != new["attack"]:
            raise InputError(f"{config.table} is of other attacks; choose another --out")
        table["summary"][name] = new["summary"]
        table["networks"] = [point for point in table["networks"] if point["kind"] != name]
        table["networks"] += new["networks"]
    table["summary"] = {name: table["summary"][name] for name in known if name in table["summary"]}
    table["networks"].sort(key=lambda point: known.index(point["kind"]))
    print(f"\n{'':<20}{'nets':>5}{'accuracy':>16}{'PGD-50':>16}{'SRA':>16}{'disagree':>10}")
    for name, summary in table["summary"].items():
        cells = [
            f"{100 * summary[key]['mean']:.1f} +- {100 * summary[key]['std']:.1f}"
            for key in ("accuracy", "pgd", "sra")
        ]
        apart = 100 * summary.get("disagreement", float("nan"))
        shown = "".join(f"{c:>16}" for c in cells)
        print(f"{name:<20}{summary['count']:>5}{shown}{apart:>10.2f}")
    config.out.mkdir(parents=True, exist_ok=True)
    # Far from all others, these would hide them.
    aside = ("standard", "thesis", *TRIVIAL)
    drawn = [point for point in table["networks"] if point["kind"] not in aside]
    found = {**table, **surroundings()}
    publish(config.table, settings, found, failed, scatter(drawn, "sra"))


if __name__ == "__main__":
    run(main, TableConfig, __doc__)
