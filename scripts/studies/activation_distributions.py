"""What an attack does to the activations inside a network: ReLU beside k-WTA beside KAF.

Ordinarily trained light CNNs (Peconi 2020); for each activation layer the histogram of its outputs
on clean and on PGD-attacked images, how far the outputs of an image move, relative to their length
(L2), and its shares of dead and saturated units: see `activation_layers` in
hypergen/analysis/activations.py. Writes a figure and JSON. Networks and figures are kept: a killed
run goes on. `--quick` trains on few images.

    HYPERGEN_DATA=... python -m scripts.studies.activation_distributions
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import attacks
from hypergen import data
from hypergen.analysis.activations import activation_layers, draw_histograms
from hypergen.measures.attacked import attacked_images
from hypergen.training.direct_config import BaselineConfig
from scripts.common import (
    RESULTS,
    device,
    ensure_same_settings,
    publish,
    rows,
    run,
    shortened,
    trained,
)
from targets import Population, outside_dictionary


@dataclass(frozen=True)
class StudyConfig:
    """What is trained and attacked."""

    quick: bool = False
    """epochs and images cut down to minutes on two cores"""
    dataset: str = "cifar10"
    """data set"""
    target: str = "light-cnn"
    """architecture"""
    activations: tuple[str, ...] = ("relu", "kwta-0.2", "kaf")
    """compared"""
    epochs: int = 30
    """of ordinary training"""
    train_images: int | None = None
    """the first of the training part; default: all"""
    images: int = 500
    """test images looked at"""
    steps: int = 40
    """of PGD, at the data set's usual radius"""
    seed: int = 0
    """of the training and the attack's starts"""
    only: tuple[str, ...] = ()
    """activations to run now, beside those run before; default: all"""
    work: Path = Path("runs/study-activation-distributions")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "activation-distributions.json"
    """the figures as JSON; the picture is written beside it"""


QUICK = StudyConfig(quick=True, epochs=2, train_images=2000, images=100)


def studied(config: StudyConfig, activation: str, dataset: data.Dataset) -> dict[str, Any]:
    """Everything about one activation."""
    recipe = BaselineConfig.of(
        method="standard",
        dataset=config.dataset,
        target=config.target,
        activation=activation,
        epochs=config.epochs,
        seed=config.seed,
    )
    path = config.work / f"{config.target}-{activation}.safetensors"
    network = trained(path, recipe, dataset, device())
    images, labels = dataset.test.first(config.images)
    pgd = attacks.PGD(recipe.threat, steps=config.steps)
    population = Population.of([network])
    points = attacked_images(population, images, labels, pgd, config.seed)[0]
    (layers,) = activation_layers(population, images, points[None])
    with torch.no_grad():
        right = [
            float((network(part).argmax(1) == labels).double().mean()) for part in (images, points)
        ]
    outside = outside_dictionary(network, images).values()
    return {
        "accuracy": right[0],
        "pgd": right[1],
        "outside_dictionary": max(outside, default=0.0),
        "layers": layers,
    }


def main(config: StudyConfig) -> None:
    """Trains, attacks, looks; prints the distances, writes and draws all."""
    settings = ensure_same_settings(config.work, config)
    dataset = shortened(data.load(config.dataset, device=device()), config.train_images)
    found, failed = rows(config, config.activations, lambda name: studied(config, name, dataset))
    for activation, row in found.items():
        moved = "  ".join(f"{name} {shown['moved']:.2f}" for name, shown in row["layers"].items())
        right = f"accuracy {100 * row['accuracy']:.1f}, PGD {100 * row['pgd']:.1f}"
        outside = f"outside the dictionary {100 * row['outside_dictionary']:.1f}"
        print(f"{activation:<10} {right}, {outside}; outputs moved: {moved}")
    drawn = {activation: [row["layers"]] for activation, row in found.items()}
    picture = draw_histograms(drawn, f"{config.dataset}, {config.target} under PGD")
    publish(config.out, settings, {"activations": found}, failed, picture)


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
