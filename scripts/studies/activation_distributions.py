"""What an attack does to the activations inside a network: ReLU beside k-WTA beside KAF.

Ordinarily trained light CNNs (Peconi 2020); for each activation layer the histogram of its outputs
on clean and on PGD-attacked images, and how far the outputs of an image move, relative to their
length (L2). Writes a figure and JSON. Networks and figures are kept: a killed run goes on.
`--quick` trains on few images.

    HYPERGEN_DATA=... python -m scripts.studies.activation_distributions
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import attacks
import targets
from hypergen import data
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60
TAILS = 0.001
"""Share of the values beyond each end of a histogram."""


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


def outputs(network: nn.Module, name: str, images: Tensor) -> dict[str, Tensor]:
    """What every activation layer of a network makes of images [N,C,H,W]: [N, values], by name."""
    kind = type(targets.make_activation(name, 1))
    found: dict[str, Tensor] = {}

    def keep(layer_name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, output: Tensor) -> None:
            found[layer_name] = output.flatten(1)

        return hook

    layers = [(n, layer) for n, layer in network.named_modules() if isinstance(layer, kind)]
    hooks = [layer.register_forward_hook(keep(n)) for n, layer in layers]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def histograms(clean: Tensor, attacked: Tensor) -> dict[str, Any]:
    """Both over the same bins, as shares of all values, and how far an image's outputs move."""
    ends = torch.stack([clean, attacked]).double().flatten()
    low, high = (float(ends.kthvalue(k).values) for k in end_ranks(len(ends)))
    shares = [
        (torch.histc(part.double(), BINS, low, high) / part.numel()).tolist()
        for part in (clean, attacked)
    ]
    length = clean.norm(dim=1).clamp_min(torch.finfo(clean.dtype).tiny)
    moved = (attacked - clean).norm(dim=1) / length
    return {
        "range": [low, high],
        "clean": shares[0],
        "attacked": shares[1],
        "moved": float(moved.mean()),
        "zeros": float((clean == 0).double().mean()),
    }


def end_ranks(count: int) -> tuple[int, int]:
    """Ranks, from 1, of the values at which a histogram begins and ends."""
    beyond = int(TAILS * count)
    return 1 + beyond, count - beyond


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
    clean, attacked = (outputs(network, activation, part) for part in (images, points))
    with torch.no_grad():
        right = [
            float((network(part).argmax(1) == labels).double().mean()) for part in (images, points)
        ]
    outside = outside_dictionary(network, images).values()
    return {
        "accuracy": right[0],
        "pgd": right[1],
        "outside_dictionary": max(outside, default=0.0),
        "layers": {name: histograms(clean[name], attacked[name]) for name in clean},
    }


def picture(found: dict[str, dict[str, Any]]) -> "Figure":
    """Histograms in a row for each activation and a column for each layer."""
    from matplotlib.figure import Figure

    columns = max(len(row["layers"]) for row in found.values())
    figure = Figure(figsize=(3 * columns, 2.4 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), columns, squeeze=False)
    for axes_row, (activation, row) in zip(grid, found.items(), strict=True):
        for axes, (layer, shown) in zip(axes_row, row["layers"].items(), strict=False):
            low, high = shown["range"]
            centres = torch.linspace(low, high, BINS).tolist()
            axes.step(centres, shown["clean"], where="mid", label="clean")
            axes.step(centres, shown["attacked"], where="mid", label="attacked")
            axes.set_yscale("log")
            axes.set_title(f"{activation}, {layer}: moved {shown['moved']:.2f}", fontsize="small")
    grid[0, 0].legend()
    return figure


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
    publish(config.out, settings, {"activations": found}, failed, picture(found))


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
