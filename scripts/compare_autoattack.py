"""Robust accuracy here beside the reference implementations, on networks from here and elsewhere.

Of every network, on the same first test images: `standard` beside the authors' own AutoAttack, and
PGD beside foolbox's and torchattacks', from the same starts and at the same budget. The bar is .4
points. There, the last point of a restart is judged; here every point visited counts, so PGD may
come out lower. Every cell (one network, one implementation) is kept: a killed run goes on.

    git clone https://github.com/fra31/auto-attack AUTOATTACK
    python -m scripts.compare_autoattack --autoattack AUTOATTACK --foreign FOLDER FILE ...

FILE: weight files of hypergen. `scripts/foreign_networks.py` says what to clone into FOLDER.
"""

import functools
import hashlib
import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchattacks
from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn
from tyro.conf import Positional

import attacks
from hypergen import data
from hypergen.errors import InputError
from hypergen.measure import survivors
from hypergen.tracking import read_json
from hypergen.weights_file import load_network, read_metadata
from scripts.cells import RESULTS, chosen, claim, kept, publish, run
from scripts.foreign_networks import NETWORKS
from targets import Population

BAR = 0.4
"""Points by which two implementations of one protocol may differ."""
PAIRS = (("standard", "AutoAttack"), ("PGD", "foolbox"), ("PGD", "torchattacks"))
"""What is held against what: ours, theirs."""


@dataclass(frozen=True)
class CompareConfig:
    """What is attacked, and how hard; AutoAttack has its own budgets."""

    files: Positional[tuple[Path, ...]] = ()
    """weight files made here, each attacked at the radius it was made for"""
    foreign: Path | None = None
    """folder of the published repositories; default: no published networks"""
    autoattack: Path | None = None
    """checkout of AutoAttack; default: compared with foolbox and torchattacks alone"""
    images: int = 500
    """test images, the first of the test part"""
    steps: int = 50
    """of PGD"""
    restarts: int = 10
    """of PGD"""
    seed: int = 0
    """of the attacks' starts"""
    only: tuple[str, ...] = ()
    """names of the networks to compare now, beside those compared before; default: all"""
    work: Path = Path("runs/compare-autoattack")
    """folder of the cells"""
    out: Path = RESULTS / "compare_autoattack.json"
    """where the figures are written"""


@dataclass(frozen=True)
class Case:
    """A network and the images it is attacked on, [N,C,H,W] in [0,1], labels [N]."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    threat: attacks.Threat

    def correct(self, images: Tensor) -> Tensor:
        """Where the network classifies these images correctly, bool [N]."""
        with torch.no_grad():
            return self.network(images).argmax(-1) == self.labels


@dataclass(frozen=True)
class Subject:
    """Where a network comes from: the data set it is for, its radius, and how to load it."""

    dataset: str
    epsilon: float
    load: Callable[[], nn.Module]

    def case(self, images: int) -> Case:
        """The network and its first test images."""
        threat = attacks.Threat("linf", self.epsilon)
        return Case(self.load(), *test_part(self.dataset).first(images), threat)


@functools.cache
def test_part(dataset: str) -> data.Split:
    """The test part of a data set, loaded once."""
    return data.load(dataset).test


def subjects(config: CompareConfig) -> dict[str, Subject]:
    """Every network by its name. InputError: two of one name, or a damaged weight file."""
    found: dict[str, Subject] = {}
    if folder := config.foreign:
        for name, network in NETWORKS.items():
            found[name] = Subject(
                network.dataset, network.epsilon, lambda n=network: n.load(folder)
            )
    for file in config.files:
        name, about = file.stem, read_metadata(file)
        if name in found:
            raise InputError(f"two networks are called {name}: rename {file}")
        if about.get("norm", "linf") != "linf":
            raise InputError(f"{file} was made for {about['norm']}; compared is linf alone")
        found[name] = Subject(
            about["dataset"], about["epsilon"], lambda file=file: load_network(file)
        )
    if not found:
        raise InputError("no networks: name weight files, or --foreign FOLDER")
    return found


def ours(attack: attacks.Attack, case: Case, seed: int, batch_size: int = 256) -> dict[str, Any]:
    """What an attack of this project leaves."""
    population = Population.of([case.network])
    table = survivors(population, case.images, case.labels, attack, seed, batch_size)
    after = {name: share(left[0]) for name, left in table.items() if name != "clean"}
    *_, last = table.values()
    return {"after": after, "left": places(last[0])}


def standard(case: Case, config: CompareConfig) -> dict[str, Any]:
    """The standard suite of this project."""
    return ours(attacks.build("standard", case.threat), case, config.seed)


def official(case: Case, config: CompareConfig) -> dict[str, Any]:
    """AutoAttack's standard version by its authors (Croce, Hein 2020), untouched."""
    sys.path.insert(0, str(config.autoattack))
    try:
        library = importlib.import_module("autoattack")
    finally:
        sys.path.pop(0)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        adversary = library.AutoAttack(
            case.network,
            norm="Linf",
            eps=case.threat.epsilon,
            seed=config.seed,
            version="standard",
            device="cpu",
            log_path=log,
        )
        points = adversary.run_standard_evaluation(case.images, case.labels)
        said = re.findall(r"robust accuracy after (\S+): ([\d.]+)%", log.read_text())
    after = {name.lower(): float(percent) / 100 for name, percent in said}
    return {"after": after, "left": places(case.correct(points))}


def pgd(case: Case, config: CompareConfig) -> dict[str, Any]:
    """PGD of this project; in one batch, to draw the starts that the others draw."""
    attack = attacks.PGD(case.threat, steps=config.steps, restarts=config.restarts)
    return ours(attack, case, config.seed, len(case.images))


def by_foolbox(case: Case, config: CompareConfig) -> dict[str, Any]:
    """PGD of foolbox (Rauber et al. 2020)."""
    attack = LinfProjectedGradientDescentAttack(
        abs_stepsize=step_size(case, config), steps=config.steps, random_start=True
    ).repeat(config.restarts)
    model = PyTorchModel(case.network, bounds=(0, 1), device="cpu")
    _, points, _ = attack(model, case.images, case.labels, epsilons=case.threat.epsilon)
    return {"left": places(case.correct(points) & case.correct(case.images))}


def by_torchattacks(case: Case, config: CompareConfig) -> dict[str, Any]:
    """PGD of torchattacks (Kim 2020), the worst of its restarts."""
    attack = torchattacks.PGD(
        case.network, case.threat.epsilon, step_size(case, config), config.steps
    )
    left = case.correct(case.images)
    for _ in range(config.restarts):
        left &= case.correct(attack(case.images, case.labels))
    return {"left": places(left)}


WAYS: dict[str, Callable[[Case, CompareConfig], dict[str, Any]]] = {
    "standard": standard,
    "AutoAttack": official,
    "PGD": pgd,
    "foolbox": by_foolbox,
    "torchattacks": by_torchattacks,
}


def step_size(case: Case, config: CompareConfig) -> float:
    """Length of a step of PGD, in [0,1]."""
    return attacks.PGD(case.threat, steps=config.steps).size


def share(correct: Tensor) -> float:
    """Share of true values in bool [N]."""
    return int(correct.sum()) / len(correct)


def places(correct: Tensor) -> list[int]:
    """Which images are left, of bool [N]."""
    return correct.nonzero().flatten().tolist()


def timed(way: str, subject: Subject, config: CompareConfig) -> dict[str, Any]:
    """A cell: what one implementation leaves of one network's images, and its CPU time."""
    case = subject.case(config.images)
    about = {"images": len(case.labels), "clean": share(case.correct(case.images))}
    with torch.random.fork_rng():  # the libraries draw from the global generator, and seed it
        torch.manual_seed(config.seed)
        start = time.process_time()
        found = WAYS[way](case, config)
    return about | found | {"seconds": round(time.process_time() - start, 1)}


def cells_of(name: str, subject: Subject, ways: list[str], work: Path) -> dict[str, Path]:
    """The file of every cell; another network of the same name, or another radius, has others."""
    digest = hashlib.sha256(f"{subject.dataset} {subject.epsilon}".encode())
    for tensor in subject.load().state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return {way: work / f"{name}-{digest.hexdigest()[:8]}-{way}.json" for way in ways}


def compared(cells: dict[str, Any], count: int) -> dict[str, Any]:
    """For every pair of ways: the difference in points, and the images only one of them breaks."""
    found = {}
    for mine, other in PAIRS:
        if other in cells:
            here, there = set(cells[mine]["left"]), set(cells[other]["left"])
            points = round(100 * (len(here) - len(there)) / count, 6)
            found[f"{mine} - {other}"] = {
                "points": points,
                "only_here": len(there - here),
                "only_there": len(here - there),
                "within": abs(points) <= BAR,
            }
    return found


def main(config: CompareConfig) -> None:
    """Attacks every network every way, prints the table and writes it."""
    known = subjects(config)
    settings = claim(config.work, config)
    ways = [way for way in WAYS if way != "AutoAttack" or config.autoattack]
    paths = {name: cells_of(name, subject, ways, config.work) for name, subject in known.items()}
    for name in chosen(config.only, known):
        for way, path in paths[name].items():
            kept(path, lambda way=way, subject=known[name]: timed(way, subject, config))
    networks: dict[str, Any] = {}
    for name, subject in known.items():
        if not all(path.exists() for path in paths[name].values()):
            continue  # left to another call
        cells = {way: read_json(path) for way, path in paths[name].items()}
        count, clean = (cells["standard"][key] for key in ("images", "clean"))
        networks[name] = {
            "dataset": subject.dataset,
            "epsilon": subject.epsilon,
            "images": count,
            "clean": clean,
            "robust": {way: len(cell["left"]) / count for way, cell in cells.items()},
            "after": {way: cell["after"] for way, cell in cells.items() if "after" in cell},
            "seconds": {way: cell["seconds"] for way, cell in cells.items()},
            "compared": compared(cells, count),
        }
    show(networks)
    publish(config.out, settings, {"bar": BAR, "networks": networks})


def show(networks: dict[str, Any]) -> None:
    """Prints the table: %, and how far apart in points; a star where that is beyond the bar."""
    for name, row in networks.items():
        robust = "  ".join(f"{way} {100 * value:.1f}" for way, value in row["robust"].items())
        apart = "  ".join(
            f"{pair} {found['points']:+.1f}{'' if found['within'] else '*'}"
            f" ({found['only_here']}/{found['only_there']})"
            for pair, found in row["compared"].items()
        )
        print(f"\n{name} (epsilon {row['epsilon']:.3g}, clean {100 * row['clean']:.1f})")
        print(f"  {robust}\n  {apart}")
        for way, after in row["after"].items():
            print(f"  {way}: {json.dumps(after)}")
    every = [found["within"] for row in networks.values() for found in row["compared"].values()]
    print(f"\n{sum(every)} of {len(every)} differences within {BAR} points")


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
