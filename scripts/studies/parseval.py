"""Layers that lengthen nothing: ordinary, FBF and generated networks, with a bound and without.

With a bound of 1 no layer's spectral norm is above 1 (Parseval training, Cisse et al. 2017): what
it costs in accuracy and what it gives in robust accuracy (SRA) and in the share of images that is
certified. All networks of a run share data, target and radius. Networks and figures are kept: a
killed study goes on.

    HYPERGEN_DATA=... python -m scripts.studies.parseval
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attacks
from hypergen.analysis import Context, Group
from hypergen.analysis.lipschitz import Lipschitz
from hypergen.catalog import ATTACKS
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.measures import Certified, Stage, prepare_batch
from hypergen.measures.attacked import attack_population
from hypergen.report.tables import Table, percent
from hypergen.runtime.progress import SILENT
from hypergen.training.direct_config import Method
from scripts.common import (
    RESULTS,
    device,
    ensure_same_settings,
    load,
    publish,
    require_start,
    rows,
    run,
)
from scripts.studies.networks import networks_of
from targets import Population

TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.1, steps=3000)
DIRECT: tuple[Method, ...] = "standard", "fbf"
GENERATED = "generated"
FIGURES = "accuracy", "robust", "certified"


@dataclass(frozen=True)
class ParsevalConfig:
    """Which networks there are, and how they are judged."""

    quick: bool = False
    """trainings and images cut down to minutes on one core"""
    train: TrainConfig = TRAIN
    """of the generators; the networks trained directly share data, target and radius"""
    bounds: tuple[float, ...] = (1.0, 2.0)
    """of spectral norms, each beside no bound"""
    epochs: int | None = None
    """of the networks trained directly; by default as many as they usually take"""
    networks: int = 3
    """of each kind: seeds, or samples of one generator"""
    certified_epsilon: float = 0.02
    """radius at which images are certified, in linf; accuracy under attack is at the run's"""
    attack: str = "standard"
    """what robust accuracy is measured by"""
    images: int = 500
    """test images"""
    only: tuple[str, ...] = ()
    """kinds to do now, beside those done before; default: all"""
    work: Path = Path("runs/parseval")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "parseval.json"
    """the figures as JSON"""


QUICK = ParsevalConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", image_size=8, target="mlp", steps=300),
    epochs=20,
    networks=2,
    images=100,
)


def kinds(config: ParsevalConfig) -> dict[str, tuple[Method | None, float | None]]:
    """By name how networks are trained, None for generated ones, and the bound of their layers."""
    return {
        (method or GENERATED) + ("" if bound is None else f" bound {bound:g}"): (method, bound)
        for method in (*DIRECT, None)
        for bound in (None, *config.bounds)
    }


def networks(config: ParsevalConfig, kind: str, dataset: Dataset) -> Population:
    """The networks of a kind; they are trained where they are not there yet."""
    method, bound = kinds(config)[kind]
    place, train = config.work / kind.replace(" ", "-"), config.train.replace(lipschitz_bound=bound)
    changes = {"epochs": config.epochs, "lipschitz_bound": bound}
    return networks_of(place, method, train, config.networks, dataset, **changes)


def judged(config: ParsevalConfig, population: Population, dataset: Dataset) -> dict[str, Any]:
    """Shares of the images by figure, and the product of the layers' norms, a value a network."""
    images, labels = dataset.test.first(config.images)
    threat = config.train.threat
    masks = attack_population(population, images, labels, ATTACKS.get(config.attack)(threat), 0)
    measure = Certified(attacks.Threat("linf", config.certified_epsilon), method="crown-ibp")
    batch = prepare_batch([measure], population, images, labels, Stage(attacks.PGD, seed=0))
    certified = measure.correct(population, batch).double().mean(1)
    context = Context(dataset, threat, attacks.PGD(threat, steps=5), count=5)
    bounds = Lipschitz().rows(Group("all", population), context, SILENT)
    found = {"accuracy": masks.accuracy, "robust": masks.robust_accuracy, "certified": certified}
    return {name: values.tolist() for name, values in found.items()} | {
        "product_bound": [row["product_bound"] for row in bounds],
        "largest_norm": [max(row["norms"]) for row in bounds],
    }


def table(found: Mapping[str, Mapping[str, Any]], config: ParsevalConfig) -> Table:
    """A row a kind, means over its networks."""
    lines = []
    for kind, own in found.items():
        means = {name: sum(values) / len(values) for name, values in own.items()}
        lines.append(
            (
                kind,
                *(percent(means[name], 1) for name in FIGURES),
                f"{means['product_bound']:.3g}",
                f"{max(own['largest_norm']):.4f}",
            )
        )
    headers = ("kind", *FIGURES, "product bound", "largest norm")
    notes = [
        f"% of {config.images} test images, means of {config.networks} networks",
        f"robust: {config.attack} at {config.train.threat.epsilon:g}; certified: crown-ibp at "
        f"{config.certified_epsilon:g}; largest norm: of a layer of any network",
    ]
    return Table(headers, lines, notes)


def main(config: ParsevalConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    require_start(config.train)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())

    def row(kind: str) -> dict[str, Any]:
        return judged(config, networks(config, kind, dataset), dataset)

    found, failed = rows(config, kinds(config), row)
    print(table(found, config))
    publish(config.out, settings, {"kinds": found}, failed)


if __name__ == "__main__":
    run(main, ParsevalConfig, __doc__, QUICK)
