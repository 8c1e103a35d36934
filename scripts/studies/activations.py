"""Activations under FBF training: accuracy and robustness of VGG and ResNet-20 with each of eight.

The comparison of Peconi 2020 on CIFAR-10 at 8/255, judged by PGD-50-10 on the true label (there it
was the predicted one) and by standard robust accuracy (SRA). Networks and figures are kept: a
killed run goes on. `--quick` trains briefly on few images, to see it work on two cores; its figures
say nothing of the activations.

    HYPERGEN_DATA=... python -m scripts.studies.activations
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypergen import data
from hypergen.evaluation.evaluator import Evaluator
from hypergen.report.scatter import scatter
from hypergen.storage.results_cache import ResultsCache
from hypergen.training.direct_config import BaselineConfig
from scripts.common import (
    RESULTS,
    begun,
    device,
    ensure_same_settings,
    now,
    publish,
    rows,
    run,
    shortened,
    trained,
)
from targets import Population

ACTIVATIONS = ("relu", "elu", "swish", "kaf", "kaf-relu", "kaf-elu", "kaf-swish", "kaf-free")
# As `step_size` of PGD-50-10 in the papers.
STEP = 2 / 255


@dataclass(frozen=True)
class StudyConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """epochs, images and networks cut down to minutes on two cores"""
    dataset: str = "cifar10"
    """data set"""
    targets: tuple[str, ...] = ("vgg", "resnet20")
    """architectures"""
    activations: tuple[str, ...] = ACTIVATIONS
    """of each"""
    method: str = "fbf"
    """fbf, pgd or standard"""
    epochs: int | None = None
    """of training; default: the recipe's"""
    train_images: int | None = None
    """the first of the training part; default: all"""
    images: int = 10_000
    """test images under PGD-50-10"""
    sra_images: int = 1000
    """test images for SRA"""
    restarts: int = 10
    """of PGD"""
    seed: int = 0
    """of the training and the attacks' starts"""
    only: tuple[str, ...] = ()
    """cells to run now, as TARGET-ACTIVATION, beside those run before; default: all"""
    work: Path = Path("runs/study-activations")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "activations.json"
    """the figures as JSON; the picture is written beside it"""


QUICK = StudyConfig(quick=True, epochs=2, train_images=2000, images=100, sra_images=20, restarts=1)


def judged(config: StudyConfig, target: str, activation: str, dataset: data.Dataset) -> Any:
    """Trains one network, or finds it, and judges it."""
    recipe = BaselineConfig.of(
        method=config.method,
        dataset=config.dataset,
        target=target,
        activation=activation,
        epochs=config.epochs,
        seed=config.seed,
    )
    path = config.work / f"{target}-{activation}.safetensors"
    whole, started = not begun(path), now()
    network = trained(path, recipe, dataset, device())
    seconds = round(now() - started, 1) if whole else None  # an earlier call did some of it
    population = Population.of([network])
    evaluator = Evaluator(
        recipe.threat,
        "pgd",
        50,
        config.restarts,
        config.images,
        config.seed,
        step_size=STEP,
        cache=ResultsCache(path.with_suffix(".masks.jsonl")),
    )
    (pgd,) = evaluator.evaluate(population, dataset)
    strong = replace(evaluator, attack_name="standard", restarts=1, images=config.sra_images)
    (sra,) = strong.evaluate(population, dataset)
    return {
        "kind": f"{target} {activation}",
        "accuracy": pgd["accuracy"],
        "pgd": pgd["pgd"],
        "sra": sra["sra"],
        "after": sra["after"],
        "outside_dictionary": pgd.get("outside_dictionary", 0.0),
        "seconds": seconds,
    }


def main(config: StudyConfig) -> None:
    """Trains and judges every network, prints the table, writes and draws it."""
    settings = ensure_same_settings(config.work, config)
    dataset = shortened(data.load(config.dataset, device=device()), config.train_images)
    pairs = {f"{t}-{a}": (t, a) for t in config.targets for a in config.activations}
    found, failed = rows(config, pairs, lambda name: judged(config, *pairs[name], dataset))
    # Outside: inputs beyond a KAF's dictionary, in the layer that has most.
    print(f"\n{'':<24}{'accuracy':>10}{'PGD-50':>10}{'SRA':>10}{'outside':>10}")
    for row in found.values():
        shown = [row[key] for key in ("accuracy", "pgd", "sra", "outside_dictionary")]
        print(f"{row['kind']:<24}" + "".join(f"{100 * value:>10.2f}" for value in shown))
    threat = BaselineConfig.of(method=config.method, dataset=config.dataset).threat
    title = (
        f"Activations under {config.method} training, a point a network\n{config.dataset}, "
        f"{threat.norm}, epsilon {threat.epsilon:.4g}, standard attacks on {config.sra_images} "
        "test images"
    )
    images = {"accuracy": len(dataset.test), "sra": config.sra_images}
    picture = scatter(list(found.values()), "sra", title, images=images)
    publish(config.out, settings, {"networks": found}, failed, picture)


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
