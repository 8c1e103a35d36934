"""k-WTA beside ReLU, trained ordinarily: what it seems to withstand, and what it does withstand.

AlexNet and ResNet-18 with ReLU and k-WTA, from scratch and from torchvision's ImageNet weights, on
CIFAR-10 and SVHN, as in Costa and Antonini 2020: PGD-40 and DeepFool as there (trained in batches
of 128 instead of 32, at rates that rise and fall instead of one drop after 50 of 80 epochs). Beside
them stands the adaptive suite, whose sampled gradient (Tramer et al. 2020) is what k-WTA does not
hide from. Networks and figures are kept: a killed run goes on. `--quick` is a wide perceptron on
MNIST.

    HYPERGEN_DATA=... python -m scripts.studies.kwta
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import attacks
from attacks.adaptive import STAGES
from hypergen import data
from hypergen.measures.attacked import attack_population
from hypergen.report.scatter import scatter
from hypergen.storage.results_cache import ResultsCache
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
from targets import Population

EPSILON = {"cifar10": 0.031, "svhn": 0.047, "mnist": 0.3}
"""The first two as published; on other data the usual radius."""
STEP = {"cifar10": 0.003, "svhn": 0.003}
"""PGD's, as published; on other data its default."""


@dataclass(frozen=True)
class StudyConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """networks, epochs, images and the sampled gradient's budget cut down for two cores"""
    datasets: tuple[str, ...] = ("cifar10", "svhn")
    """data sets"""
    targets: tuple[str, ...] = ("alexnet", "resnet18")
    """architectures"""
    activations: tuple[str, ...] = ("relu", "kwta-0.2", "kwta-0.1")
    """of each"""
    starts: tuple[str, ...] = ("scratch", "pretrained")
    """initial weights"""
    epochs: int = 80
    """of training from scratch; from pretrained weights an eighth as many"""
    learning_rate: float = 0.1
    """of training from scratch; from pretrained weights a tenth of it"""
    train_images: int | None = None
    """the first of the training part; default: all"""
    images: int = 320
    """test images attacked"""
    schedule: tuple[tuple[int, int], ...] = STAGES
    """of the sampled gradient: steps, and samples a step"""
    seed: int = 0
    """of the training and the attacks' starts"""
    only: tuple[str, ...] = ()
    """cells to run now, as DATASET-TARGET-ACTIVATION-START, beside those run before;
    default: all"""
    work: Path = Path("runs/study-kwta")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "kwta.json"
    """the figures as JSON; the picture is written beside it"""


QUICK = StudyConfig(
    quick=True,
    datasets=("mnist",),
    targets=("wide-mlp",),
    activations=("relu", "kwta-0.03"),
    starts=("scratch",),
    epochs=1,
    learning_rate=1e-3,
    train_images=20_000,
    images=200,
    schedule=((20, 100), (20, 1000)),
)


@functools.cache
def dataset_of(name: str, train_images: int | None) -> data.Dataset:
    """Loaded once for all networks."""
    return shortened(data.load(name, device=device()), train_images)


def robust_shares(config: StudyConfig, network: tuple[str, str, str, str]) -> dict[str, float]:
    """Trains one network, or finds it; the share of images that survive each attack."""
    name, target, activation, start = network
    dataset = dataset_of(name, config.train_images)
    pretrained = start == "pretrained"
    recipe = BaselineConfig.of(
        method="standard",
        dataset=name,
        target=target,
        activation=activation,
        pretrained=pretrained,
        epochs=max(1, config.epochs // 8) if pretrained else config.epochs,
        learning_rate=config.learning_rate * (0.1 if pretrained else 1),
        seed=config.seed,
    )
    path = config.work / f"{'-'.join(network)}.safetensors"
    population = Population.of([trained(path, recipe, dataset, device())])
    threat = attacks.Threat("linf", EPSILON.get(name, recipe.threat.epsilon))
    adaptive = attacks.build("adaptive", threat, schedule=config.schedule)
    masks, cache = {}, ResultsCache(path.with_suffix(".masks.jsonl"))
    images, labels = dataset.test.first(config.images)
    for attack in (
        attacks.PGD(threat, steps=40, step_size=STEP.get(name)),
        attacks.DeepFool(threat, steps=20, candidates=10),
        adaptive,
    ):
        view = cache.view(images, labels, attack=attack.describe(), seed=config.seed)
        found = attack_population(population, images, labels, attack, config.seed, cache=view)
        masks |= {"clean": found.clean} | found.after
    return {attack: float(mask.double().mean()) for attack, mask in masks.items()}


def main(config: StudyConfig) -> None:
    """Trains and attacks every network, prints the table, writes and draws it."""
    settings = ensure_same_settings(config.work, config)
    networks = {
        "-".join(network): network
        for network in (
            (name, target, activation, start)
            for name in config.datasets
            for target in config.targets
            for start in config.starts
            for activation in config.activations
        )
    }
    found, failed = rows(config, networks, lambda title: robust_shares(config, networks[title]))
    heads = list(next(iter(found.values()))) if found else []
    print(f"\n{'':<40}" + "".join(f"{head:>18}" for head in heads))
    for title, row in found.items():
        print(f"{title:<40}" + "".join(f"{100 * row[head]:>18.2f}" for head in heads))
    points = [
        {"kind": title, "accuracy": row["clean"], "robustness": row[heads[-1]]}
        for title, row in found.items()
    ]
    title = (
        "k-WTA beside ReLU, trained ordinarily, a point a network\n"
        f"{', '.join(config.datasets)}, linf, {heads[-1] if heads else ''} on {config.images} test "
        "images"
    )
    picture = scatter(points, "robustness", title)
    publish(config.out, settings, {"networks": found}, failed, picture)


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
