"""Is what is certified never lost to an attack? Fifty networks of all kinds, image by image.

Networks are untrained, trained directly by three methods, drawn from generators (one trained for
robustness and one for `certified`), and members of an ensemble, with each activation that can be
bounded. For every radius stand beside each other what interval bounds and CROWN-IBP certify and
standard robust accuracy, all of the same test images, and how many images are certified though an
attack breaks them: there must be none. A killed study goes on.

    HYPERGEN_DATA=... python -m scripts.studies.certified
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attacks
import targets
from hypergen.catalog import ATTACKS
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.experiments.base import direct_recipe
from hypergen.measures import Certified, Stage, prepare_batch
from hypergen.measures.attacked import attack_population
from hypergen.report.tables import Table, percent
from hypergen.training.direct_config import Method
from scripts.common import (
    RESULTS,
    device,
    ensure_same_settings,
    generator,
    load,
    publish,
    require_start,
    rows,
    run,
    trained,
)
from targets import Ensemble, Population
from targets.bounds import METHODS

TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.1, steps=1000)
ACTIVATIONS = "relu", "leaky_relu", "elu", "tanh", "softplus"
DIRECT: tuple[Method, ...] = "standard", "fbf", "pgd"
GENERATED: dict[str, dict[str, Any]] = {
    "generated": {},
    "generated for certified": {"measure": ("accuracy=0.5", "certified=0.5")},
}
"""By kind, what the generator is trained for beside the shared settings."""
ENSEMBLE = "members of an ensemble"
KINDS = "untrained", *DIRECT, *GENERATED, ENSEMBLE


@dataclass(frozen=True)
class CertifiedConfig:
    """Which networks there are, and how they are judged."""

    quick: bool = False
    """trainings, images, radii and attacks cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of the generators; the networks trained directly share data, target and radius"""
    epochs: int = 5
    """of the networks trained directly"""
    samples: int = 10
    """networks drawn from each generator, and that vote; of other kinds one an activation"""
    epsilons: tuple[float, ...] = (0.01, 0.03, 0.1)
    """radii that all are judged at, in linf"""
    attack: str = "standard"
    """what certificates are held against"""
    images: int = 100
    """test images"""
    only: tuple[str, ...] = ()
    """kinds to do now, beside those done before; default: all"""
    work: Path = Path("runs/certified")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "certified.json"
    """the figures as JSON"""


QUICK = CertifiedConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", image_size=8, target="mlp", steps=150),
    epochs=4,
    epsilons=(0.01, 0.05),
    attack="quick",
    images=20,
)


def networks(config: CertifiedConfig, kind: str, dataset: Dataset) -> list[nn.Module]:
    """The networks of a kind; they are trained where they are not there yet."""
    if kind == "untrained":
        shape = dataset.num_classes, dataset.input_shape
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = [targets.build(config.train.target, name, *shape) for name in ACTIVATIONS]
        return [network.to(device()).eval() for network in made]
    if kind in DIRECT:
        return [directly(config, kind, name, 0, dataset) for name in ACTIVATIONS]
    if kind == ENSEMBLE:
        made = [directly(config, "fbf", "relu", seed, dataset) for seed in range(config.samples)]
        return list(Ensemble(Population.of(made)).members)
    folder = config.work / kind.replace(" ", "-")
    sampler = generator(folder, config.train.replace(**GENERATED[kind]), dataset)
    return list(sampler.sample(config.samples, seed=1))


def directly(
    config: CertifiedConfig, method: Method, activation: str, seed: int, dataset: Dataset
) -> nn.Module:
    """A network trained directly, or read where it is there."""
    recipe = direct_recipe(config.train, method, seed)
    recipe = recipe.replace(activation=activation, epochs=config.epochs)
    path = config.work / f"{method}-{activation}-{seed}.safetensors"
    return trained(path, recipe, dataset, device()).eval()


def certified(
    population: Population, images: Tensor, labels: Tensor, threat: attacks.Threat, method: str
) -> Tensor:
    """bool [P,N], which of images [N,C,H,W] are certified by a method of `targets.bounds`."""
    measure = Certified(threat, method=method)
    stage = Stage(attacks.PGD, seed=0)  # of which only the threat matters
    batch = prepare_batch([measure], population, images, labels, stage)
    return measure.correct(population, batch)


def judged(config: CertifiedConfig, network: nn.Module, dataset: Dataset) -> list[dict[str, Any]]:
    """What is certified of a network and what survives, a row a radius: shares of the images.

    certified_but_broken: how many images are certified, by either method, and broken all the same.
    """
    population = Population.of([network])
    images, labels = dataset.test.first(config.images)
    found = []
    for epsilon in config.epsilons:
        threat = attacks.Threat("linf", epsilon)
        attack = ATTACKS.get(config.attack)(threat)
        robust = attack_population(population, images, labels, attack, seed=0).robust
        masks = {
            method: certified(population, images, labels, threat, method) for method in METHODS
        }
        either = torch.stack(list(masks.values())).any(0)
        row = {name: float(mask.double().mean()) for name, mask in masks.items()}
        row |= {"epsilon": epsilon, "robust": float(robust.double().mean())}
        found.append(row | {"certified_but_broken": int((either & ~robust).sum())})
    return found


def table(kinds: Mapping[str, Mapping[str, Any]], attack: str) -> Table:
    """A row a kind and radius, means over its networks."""
    lines = []
    for kind, found in kinds.items():
        for cells in zip(*found["networks"], strict=True):  # of all networks at one radius
            means = [sum(c[name] for c in cells) / len(cells) for name in (*METHODS, "robust")]
            lines.append(
                (
                    kind,
                    str(len(cells)),
                    f"{cells[0]['epsilon']:g}",
                    *(percent(mean, 1) for mean in means),
                    str(sum(c["certified_but_broken"] for c in cells)),
                )
            )
    headers = ("kind", "networks", "epsilon", *METHODS, attack, "certified but broken")
    return Table(headers, lines, ["% of test images, means of networks; the last in images"])


def main(config: CertifiedConfig) -> None:
    """Trains and judges all, prints the table and writes it.

    `RunError` if anything was certified that an attack breaks.
    """
    require_start(config.train)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())

    def row(kind: str) -> dict[str, Any]:
        made = networks(config, kind, dataset)
        return {"networks": [judged(config, network, dataset) for network in made]}

    found, failed = rows(config, KINDS, row)
    print(table(found, config.attack))
    publish(config.out, settings, {"kinds": found}, failed)
    broken = [
        kind
        for kind, own in found.items()
        for each in own["networks"]
        if any(cell["certified_but_broken"] for cell in each)
    ]
    if broken:
        raise RunError(f"attacks break what is certified: {', '.join(dict.fromkeys(broken))}")


if __name__ == "__main__":
    run(main, CertifiedConfig, __doc__, QUICK)
