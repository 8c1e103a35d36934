"""Standard robust accuracy here beside the same attacks of torchattacks, on one FBF network.

Standard: APGD-CE, APGD-T and FAB-T (9 targets, 100 steps each), Square (5,000 queries); an image
counts as lost when any of them breaks it. PGD-50 stands beside it, from the same starts in both.
Every column of the standard attacks shows what is left after it and those before. Prints a table
and a line of JSON.

    python -m scripts.compare_torchattacks
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchattacks
import tyro
from torch import Tensor, nn

import attacks
from hypergen import data
from hypergen.baseline import BaselineConfig, train_baseline
from hypergen.measure import survivors
from targets import Population


@dataclass(frozen=True)
class CompareConfig:
    """What is attacked, and how hard."""

    dataset: str = "mnist"
    """data set"""
    target: str = "small-lenet5"
    """architecture"""
    epsilon: float | None = None
    """radius trained and attacked at, Linf in [0,1]; default: the data set's usual one"""
    epochs: int = 3
    """of FBF training"""
    images: int = 300
    """test images, the first of the test part"""
    steps: int = 100
    """of APGD, and of APGD-T and FAB-T for each target"""
    queries: int = 5000
    """of Square"""
    pgd_steps: int = 50
    """of PGD"""
    seed: int = 0
    """of the training and the attacks' starts"""
    out: Path = Path(__file__).parent / "results" / "compare_torchattacks.json"
    """where the figures are written"""


def main(config: CompareConfig) -> None:
    """Trains, attacks with both, prints and writes."""
    dataset = data.load(config.dataset)
    baseline = BaselineConfig(
        "fbf",
        dataset.name,
        target=config.target,
        epsilon=config.epsilon,
        epochs=config.epochs,
        seed=config.seed,
    )
    module = train_baseline(baseline, dataset, torch.device("cpu"))
    images, labels = dataset.test.first(config.images)

    started = time.perf_counter()
    mine = ours(module, images, labels, baseline.threat, config)
    seconds = {"hypergen": time.perf_counter() - started}
    started = time.perf_counter()
    other = theirs(module, images, labels, baseline.threat, config)
    seconds["torchattacks"] = time.perf_counter() - started

    rows = {"torchattacks": other, "hypergen": mine}
    print(f"{'':>12} " + " ".join(f"{name:>9}" for name in mine))
    for name, row in rows.items():
        print(f"{name:>12} " + " ".join(f"{100 * row[column]:>9.2f}" for column in mine))
    difference = mine["square"] - other["square"]
    print(f"\nstandard robust accuracy differs by {100 * difference:+.2f} points")
    figures = {
        **{name: value for name, value in asdict(config).items() if name != "out"},
        "epsilon": baseline.threat.epsilon,
        "accuracy": rows,
        "difference": difference,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "torch": torch.__version__,
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))


def ours(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: attacks.Threat,
    config: CompareConfig,
) -> dict[str, float]:
    """Share of images [N,C,H,W] left after each attack of this project, by its name."""
    population = Population.of([module])
    standard = attacks.standard(threat, steps=config.steps, queries=config.queries)
    pgd = attacks.PGD(threat, steps=config.pgd_steps)
    left = survivors(population, images, labels, standard, config.seed)
    beside = survivors(population, images, labels, pgd, config.seed, batch_size=len(images))
    table = {"clean": left["clean"], "pgd": beside[pgd.name], **left}
    return {name: share(correct[0]) for name, correct in table.items()}


def theirs(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: attacks.Threat,
    config: CompareConfig,
) -> dict[str, float]:
    """The same by torchattacks."""
    epsilon = threat.epsilon
    size = attacks.PGD(threat, steps=config.pgd_steps).size
    suite = {
        "apgd-ce": torchattacks.APGD(module, "Linf", epsilon, config.steps, loss="ce"),
        "apgd-t": torchattacks.APGDT(module, "Linf", epsilon, config.steps, n_classes=10),
        "fab-t": torchattacks.FAB(
            module, "Linf", epsilon, config.steps, multi_targeted=True, n_classes=10
        ),
        "square": torchattacks.Square(module, "Linf", epsilon, config.queries),
    }

    def left(attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        adv = attack(images, labels)
        with torch.no_grad():
            return module(adv).argmax(-1) == labels

    with torch.random.fork_rng():  # torchattacks draws from the global generator, and seeds it
        correct = left(lambda images, labels: images)
        torch.manual_seed(config.seed)  # the starts of `ours`
        pgd = torchattacks.PGD(module, epsilon, size, config.pgd_steps)
        table = {"clean": share(correct), "pgd": share(left(pgd))}
        for name, attack in suite.items():
            correct = correct & left(attack)
            table[name] = share(correct)
    return table


def share(correct: Tensor) -> float:
    """Share of true values in bool [N]."""
    return int(correct.sum()) / len(correct)


if __name__ == "__main__":
    main(tyro.cli(CompareConfig, description=__doc__))
