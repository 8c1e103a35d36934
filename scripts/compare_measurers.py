"""What V should look at: measurers of robustness side by side, at equal time.

Each one trains a generator by the `value` objective for the same CPU time, from random weights;
samples are then judged by PGD-50 and by standard robust accuracy, attack by attack. What a measurer
says itself stands beside the truth: the closer, the less there is to hide in. Measurers that were
not taken are defined here and nowhere else. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare_measurers
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import attacks
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.evaluate import Judge
from hypergen.measure import MEASURERS, ROBUSTNESS, attacked_batch, margin
from hypergen.train import Training
from scripts.cells import RESULTS, cell, chosen, claim, kept, publish, require_start, run


@dataclass(frozen=True)
class Halves(attacks.Attack):
    """Every second image by the untargeted margin, the others towards a class drawn for each."""

    steps: int

    @property
    def name(self) -> str:
        return "halves"

    def perturb(
        self, model: attacks.Model, images: Tensor, labels: Tensor, seeds: Sequence[int]
    ) -> Tensor:
        points = torch.empty_like(images)
        for start, make in enumerate((margin, random_targets)):
            some = slice(start, None, 2)
            attack = make(self.threat, self.steps)
            points[:, some] = attack.perturb(model, images[:, some], labels[some], seeds)
        return points


def random_targets(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """A wrong class drawn for each image."""
    return attacks.PGD(threat, steps=steps, loss="random")


def gradient_free(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """Stripes and squares alone, as many queries as `margin` has passes."""
    return attacks.Square(threat, queries=3 * steps)


def strongest(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """The strongest point of the margin's, a random target's and Square's."""
    parts = margin(threat, steps), random_targets(threat, steps), attacks.Square(threat, queries=5)
    return attacks.Suite(*parts)


CANDIDATES: dict[str, Callable[[attacks.Threat, int], attacks.Attack]] = {
    **MEASURERS,
    "random-targets": random_targets,
    "halves": Halves,
    "gradient-free": gradient_free,
    "strongest-of-three": strongest,
}
ROUNDS = 8
"""Steps of every candidate, one after the other in turn, that its cost is told by."""


@dataclass(frozen=True)
class CompareConfig:
    """What is trained, how long, and how it is judged."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            dataset="mnist", objective="value", epsilon=0.2, surprise=1.0
        )
    )
    """settings shared by all"""
    seconds: float = 300
    """CPU time of each training, by what a step of it costs at the start"""
    samples: int = 2
    """networks drawn of each"""
    images: int = 200
    """test images attacked; accuracy is over all"""
    only: tuple[str, ...] = ()
    """names of the measurers to compare now, beside those run before; default: all"""
    work: Path = Path("runs/compare-measurers")
    """folder of the figures of each"""
    out: Path = RESULTS / "measurers.json"
    """the table as JSON"""


def seconds_a_step(config: CompareConfig, dataset: data.Dataset) -> dict[str, float]:
    """CPU time of a step with each candidate; in turn, so that a busy machine slows all alike."""
    trials = {
        name: Training(replace(config.train, measurer=name), dataset, torch.device("cpu"))
        for name in CANDIDATES
    }
    spent = dict.fromkeys(trials, 0.0)
    for turn in range(1 + ROUNDS):
        for name, trial in trials.items():
            start = time.process_time()
            trial.take_step()
            if turn > 0:  # the first one sets up
                spent[name] += (time.process_time() - start) / ROUNDS
    return spent


def trained(name: str, config: CompareConfig, steps: int, dataset: data.Dataset) -> Training:
    """A training by this measurer."""
    settings = replace(config.train, measurer=name, steps=steps)
    training = Training(settings, dataset, torch.device("cpu"))
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
    require_start(config.train)
    settings = claim(config.work, config)
    dataset = data.load(config.train.dataset)
    rows: dict[str, Any] = {}
    with mock.patch.dict(MEASURERS, CANDIDATES):
        costs = kept(config.work / "costs.json", lambda: seconds_a_step(config, dataset))
        for name in chosen(config.only, CANDIDATES, lambda name: [cell(config.work, name)]):
            steps = max(1, round(config.seconds / costs[name]))
            rows[name] = kept(
                cell(config.work, name),
                lambda n=name, s=steps: figures(trained(n, config, s, dataset), config, dataset),
            )
            rows[name]["seconds_a_step"] = costs[name]
    heads = ("s a step", "steps", "accuracy", "claimed", "PGD-50", "SRA")
    print(f"\n{'':<18}" + "".join(f"{head:>10}" for head in heads) + "  after each attack")
    for name, row in rows.items():
        shown = "".join(f"{100 * row[k]:>10.1f}" for k in ("accuracy", "claimed", "pgd", "sra"))
        after = ", ".join(f"{attack} {100 * v:.1f}" for attack, v in row["after"].items())
        print(f"{name:<18}{row['seconds_a_step']:>10.2f}{row['steps']:>10}{shown}  {after}")
    publish(config.out, settings, {"measurers": rows})


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
