"""Robust accuracy here beside the reference implementations, on networks from here and elsewhere.

Of every network, on the same first test images: `standard` beside the authors' own AutoAttack, and
PGD beside foolbox's and torchattacks', from the same starts and at the same budget. The bar is 0.4
points. There, the last point of a restart is judged; here every point visited counts, so PGD may
come out lower. Every result (one network, one implementation) is kept: a killed run goes on.

    git clone https://github.com/fra31/auto-attack AUTOATTACK
    python -m scripts.compare.autoattack --autoattack AUTOATTACK --external FOLDER FILE ...

FILE: weight files of hypergen. external_networks.py, beside this file, says what to clone into
FOLDER.
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
from hypergen.measures.attacked import attack_population
from hypergen.storage.atomic import read_json
from hypergen.storage.weights import load_network, read_metadata
from scripts.common import RESULTS, cached_json, chosen, ensure_same_settings, publish, run
from scripts.compare.external_networks import NETWORKS
from targets import Population

BAR = 0.4
"""Points by which two implementations of one protocol may differ."""
PAIRS = (("standard", "AutoAttack"), ("PGD", "foolbox"), ("PGD", "torchattacks"))
"""Which implementations are compared: ours, theirs."""


@dataclass(frozen=True)
class CompareConfig:
    """What is attacked, and how hard; AutoAttack has its own budgets."""

    files: Positional[tuple[Path, ...]] = ()
    """weight files made here, each attacked at the radius it was made for"""
    external: Path | None = None
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
    """folder of the single results"""
    out: Path = RESULTS / "compare_autoattack.json"
    """where the figures are written"""


@dataclass(frozen=True)
class Task:
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

    def task(self, images: int) -> Task:
        """The network and its first test images."""
        threat = attacks.Threat("linf", self.epsilon)
        return Task(self.load(), *test_part(self.dataset).first(images), threat)


@functools.cache
def test_part(dataset: str) -> data.Split:
    """The test part of a data set, loaded once."""
    return data.load(dataset).test


def subjects(config: CompareConfig) -> dict[str, Subject]:
    """Every network by its name. InputError: two of one name, or a damaged weight file."""
    found: dict[str, Subject] = {}
    if folder := config.external:
        for name, network in NETWORKS.items():
            load = functools.partial(network.load, folder)
            found[name] = Subject(network.dataset, network.epsilon, load)
    for file in config.files:
        name, metadata = file.stem, read_metadata(file)
        if name in found:
            raise InputError(f"two networks are called {name}: rename {file}")
        if metadata.get("norm", "linf") != "linf":
            raise InputError(f"{file} was made for {metadata['norm']}; compared is linf alone")
        load = functools.partial(load_network, file)
        found[name] = Subject(metadata["dataset"], metadata["epsilon"], load)
    if not found:
        raise InputError("no networks: name weight files, or --external FOLDER")
    return found


def ours(attack: attacks.Attack, task: Task, seed: int, batch_size: int = 256) -> dict[str, Any]:
    """What an attack of this project leaves."""
    population = Population.of([task.network])
    masks = attack_population(population, task.images, task.labels, attack, seed, batch_size)
    after = {name: share(mask[0]) for name, mask in masks.after.items()}
    return {"after": after, "left": indices(masks.robust[0])}


def standard(task: Task, config: CompareConfig) -> dict[str, Any]:
    """The standard suite of this project."""
    return ours(attacks.build("standard", task.threat), task, config.seed)


def official(task: Task, config: CompareConfig) -> dict[str, Any]:
    """AutoAttack's standard version by its authors (Croce, Hein 2020), untouched."""
    sys.path.insert(0, str(config.autoattack))
    try:
        library = importlib.import_module("autoattack")
    finally:
        sys.path.pop(0)
    how = {"norm": "Linf", "eps": task.threat.epsilon, "seed": config.seed, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        suite = library.AutoAttack(task.network, **how, version="standard", log_path=log)
        points = suite.run_standard_evaluation(task.images, task.labels)
        logged = re.findall(r"robust accuracy after (\S+): ([\d.]+)%", log.read_text())
    after = {name.lower(): float(percent) / 100 for name, percent in logged}
    return {"after": after, "left": indices(task.correct(points))}


def pgd_of(task: Task, config: CompareConfig) -> attacks.PGD:
    """The PGD that is compared."""
    return attacks.PGD(task.threat, steps=config.steps, restarts=config.restarts)


def pgd(task: Task, config: CompareConfig) -> dict[str, Any]:
    """PGD of this project; in one batch, to draw the starts that the others draw."""
    return ours(pgd_of(task, config), task, config.seed, len(task.images))


def by_foolbox(task: Task, config: CompareConfig) -> dict[str, Any]:
    """PGD of foolbox (Rauber et al. 2020)."""
    own = pgd_of(task, config)
    once = LinfProjectedGradientDescentAttack(abs_stepsize=own.size, steps=own.steps)
    model = PyTorchModel(task.network, bounds=(0, 1), device="cpu")
    attack, epsilon = once.repeat(own.restarts), own.threat.epsilon
    _, points, _ = attack(model, task.images, task.labels, epsilons=epsilon)
    return {"left": indices(task.correct(points) & task.correct(task.images))}


def by_torchattacks(task: Task, config: CompareConfig) -> dict[str, Any]:
    """PGD of torchattacks (Kim 2020), the worst of its restarts."""
    own = pgd_of(task, config)
    attack = torchattacks.PGD(task.network, own.threat.epsilon, own.size, own.steps)
    robust = task.correct(task.images)
    for _ in range(config.restarts):
        robust &= task.correct(attack(task.images, task.labels))
    return {"left": indices(robust)}


IMPLEMENTATIONS: dict[str, Callable[[Task, CompareConfig], dict[str, Any]]] = {
    "standard": standard,
    "AutoAttack": official,
    "PGD": pgd,
    "foolbox": by_foolbox,
    "torchattacks": by_torchattacks,
}


def share(correct: Tensor) -> float:
    """Share of true values in bool [N]."""
    return int(correct.sum()) / len(correct)


def indices(correct: Tensor) -> list[int]:
    """Where bool [N] is true."""
    return correct.nonzero().flatten().tolist()


def timed(way: str, subject: Subject, config: CompareConfig) -> dict[str, Any]:
    """What one implementation leaves of one network's images, and its CPU time."""
    task = subject.task(config.images)
    known = {"images": len(task.labels), "clean": share(task.correct(task.images))}
    with torch.random.fork_rng():  # the libraries draw from the global generator, and seed it
        torch.manual_seed(config.seed)
        start = time.process_time()
        found = IMPLEMENTATIONS[way](task, config)
    return known | found | {"seconds": round(time.process_time() - start, 1)}


def cells_of(name: str, subject: Subject, ways: list[str], work: Path) -> dict[str, Path]:
    """The file of every result, by implementation.

    Another network of the same name, or another radius, has other files.
    """
    digest = hashlib.sha256(f"{subject.dataset} {subject.epsilon}".encode())
    for tensor in subject.load().state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return {way: work / f"{name}-{digest.hexdigest()[:8]}-{way}.json" for way in ways}


def compared(cells: dict[str, Any], count: int) -> dict[str, Any]:
    """For each of `PAIRS`: the difference in points, and the images only one of them breaks."""
    found = {}
    for mine, other in (pair for pair in PAIRS if pair[1] in cells):
        here, there = set(cells[mine]["left"]), set(cells[other]["left"])
        points = round(100 * (len(here) - len(there)) / count, 6)
        found[f"{mine} - {other}"] = {
            "points": points,
            "only_here": len(there - here),
            "only_there": len(here - there),
            "within": abs(points) <= BAR,
        }
    return found


def row(subject: Subject, cells: dict[str, Any]) -> dict[str, Any]:
    """What is published of one network, from the results of all implementations."""
    count = cells["standard"]["images"]
    return {
        "dataset": subject.dataset,
        "epsilon": subject.epsilon,
        "images": count,
        "clean": cells["standard"]["clean"],
        "robust": {way: len(cell["left"]) / count for way, cell in cells.items()},
        "after": {way: cell["after"] for way, cell in cells.items() if "after" in cell},
        "seconds": {way: cell["seconds"] for way, cell in cells.items()},
        "compared": compared(cells, count),
    }


def main(config: CompareConfig) -> None:
    """Attacks every network by every implementation, prints the table and writes it."""
    known = subjects(config)
    settings = ensure_same_settings(config.work, config)
    ways = [way for way in IMPLEMENTATIONS if way != "AutoAttack" or config.autoattack]
    paths = {name: cells_of(name, subject, ways, config.work) for name, subject in known.items()}
    for name in chosen(config.only, known):
        for way, path in paths[name].items():
            cached_json(path, lambda way=way, subject=known[name]: timed(way, subject, config))
    networks = {
        name: row(subject, {way: read_json(path) for way, path in paths[name].items()})
        for name, subject in known.items()
        if all(path.exists() for path in paths[name].values())  # others are left to another call
    }
    show(networks)
    publish(config.out, settings, {"bar": BAR, "networks": networks})


def show(networks: dict[str, Any]) -> None:
    """Prints the table: %, and how far apart in points; a star where that is beyond the bar."""
    for name, row in networks.items():
        robust = "  ".join(f"{way} {100 * value:.1f}" for way, value in row["robust"].items())
        differences = "  ".join(
            f"{pair} {found['points']:+.1f}{'' if found['within'] else '*'}"
            f" ({found['only_here']}/{found['only_there']})"
            for pair, found in row["compared"].items()
        )
        print(f"\n{name} (epsilon {row['epsilon']:.3g}, clean {100 * row['clean']:.1f})")
        print(f"  {robust}\n  {differences}")
        for way, after in row["after"].items():
            print(f"  {way}: {json.dumps(after)}")
    every = [found["within"] for row in networks.values() for found in row["compared"].values()]
    print(f"\n{sum(every)} of {len(every)} differences within {BAR} points")


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
