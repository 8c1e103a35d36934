"""What V should look at: measurers of robustness side by side, at equal time.

Each one trains a generator by the `value` objective for the same CPU time, from random weights;
samples are then judged by PGD-50 and by standard robust accuracy, attack by attack. What a measurer
says itself stands beside the truth: the closer, the less there is to hide in. Measurers that were
not taken are defined here and nowhere else. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare_measurers
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import tyro

import attacks
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.evaluate import Judge
from hypergen.measure import MEASURERS, ROBUSTNESS, attacked_batch, mixed
from hypergen.train import Training
from scripts.cells import RESULTS, chosen, claim, kept, publish


def margin(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """The untargeted margin alone."""
    return attacks.PGD(threat, steps=steps, loss="margin")


def random_targets(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """A wrong class drawn for each image."""
    return attacks.PGD(threat, steps=steps, loss="random")


def likeliest_target(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """The untargeted margin and the likeliest wrong class of the clean image."""
    targeted = attacks.PGD(threat, steps=steps, loss="targeted")
    return attacks.Suite(margin(threat, steps), targeted)


def gradient_free(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """Stripes and squares alone, as many queries as `mixed` has passes."""
    return attacks.Square(threat, queries=8 * steps)


def twice(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """`mixed` with twice the steps."""
    return mixed(threat, 2 * steps)


def wider(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """`mixed` at 1.3 times the radius."""
    return mixed(replace(threat, epsilon=1.3 * threat.epsilon), steps)


CANDIDATES: dict[str, Callable[[attacks.Threat, int], attacks.Attack]] = {
    **MEASURERS,
    "margin": margin,
    "random-targets": random_targets,
    "likeliest-target": likeliest_target,
    "gradient-free": gradient_free,
    "mixed-twice": twice,
    "mixed-wider": wider,
}


@dataclass(frozen=True)
class CompareConfig:
    """What is trained, how long, and how it is judged."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            dataset="mnist", objective="value", epsilon=0.2, surprise=1.0
        )
    )
    """settings shared by all"""
    seconds: float = 600
    """CPU time of each training"""
    samples: int = 2
    """networks drawn of each"""
    images: int = 200
    """test images attacked; accuracy is over all"""
    only: tuple[str, ...] = ()
    """names of the measurers to compare; default: all"""
    work: Path = Path("runs/compare-measurers")
    """folder of the figures of each"""
    out: Path = RESULTS / "measurers.json"
    """the table as JSON"""


def trained(name: str, config: CompareConfig, dataset: data.Dataset) -> Training:
    """A training of as many steps as the time allows, by a short trial."""
    settings = replace(config.train, measurer=name)
    trial = Training(settings, dataset, torch.device("cpu"))
    trial.take_step()
    start = time.process_time()
    for _ in range(5):
        trial.take_step()
    steps = max(1, round(5 * config.seconds / (time.process_time() - start)))
    training = Training(replace(settings, steps=steps), dataset, torch.device("cpu"))
    while training.step < steps:
        training.take_step()  # without a look at SRA: all measurers get the same time
    return training


@torch.no_grad()
def figures(training: Training, config: CompareConfig, dataset: data.Dataset) -> dict[str, Any]:
    """What samples of the trained generator are worth, and what its measurer thinks of them."""
    settings = training.config
    population = training.sample(config.samples, settings.seed + 1)
    judge = Judge(settings.threat, "standard", 50, 1, config.images, settings.seed)
    rows = judge.judge(population, dataset, "judging")
    own = MEASURERS[settings.measurer](settings.threat, settings.attack_steps)
    batch = attacked_batch(population, *dataset.test.first(config.images), own, settings.seed)
    return {
        "steps": settings.steps,
        "claimed": float(ROBUSTNESS(population, batch).mean()),
        **{key: statistics.fmean(row[key] for row in rows) for key in ("accuracy", "pgd", "sra")},
        "after": {
            attack: statistics.fmean(row["after"][attack] for row in rows)
            for attack in rows[0]["after"]
        },
    }


def main(config: CompareConfig) -> None:
    """Trains and judges by every measurer, prints the table and writes it."""
    settings = claim(config.work, config)
    dataset = data.load(config.train.dataset)
    rows: dict[str, Any] = {}
    with mock.patch.dict(MEASURERS, CANDIDATES):
        for name in chosen(config.only, CANDIDATES):
            rows[name] = kept(
                config.work / f"{name}.json",
                lambda n=name: figures(trained(n, config, dataset), config, dataset),
            )
    heads = ("steps", "accuracy", "claimed", "PGD-50", "SRA")
    print(f"\n{'':<18}" + "".join(f"{head:>10}" for head in heads) + "  after each attack")
    for name, row in rows.items():
        shown = "".join(f"{100 * row[k]:>10.1f}" for k in ("accuracy", "claimed", "pgd", "sra"))
        after = ", ".join(f"{attack} {100 * v:.1f}" for attack, v in row["after"].items())
        print(f"{name:<18}{row['steps']:>10}{shown}  {after}")
    publish(config.out, settings, {"measurers": rows}, whole=not config.only)


if __name__ == "__main__":
    main(tyro.cli(CompareConfig))
