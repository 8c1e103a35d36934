"""What V should be fitted to: value attacks side by side, at equal time.

Each one trains a generator by the `value` objective for the same CPU time, from random weights;
samples are then judged by PGD-50 and by standard robust accuracy, attack by attack. What a value
attack leaves of them itself ("claimed") stands beside the truth: the closer, the less there is to
hide in. Value attacks that were not taken are defined here and nowhere else. A killed run of this
script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare.value_attacks
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.evaluator import Evaluator
from hypergen.measures import VALUE_ATTACKS, Robustness, Stage, prepare_batch
from hypergen.measures.robustness import margin
from hypergen.training.adversary import Adversary
from hypergen.training.trainer import Trainer
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    chosen,
    ensure_same_settings,
    load,
    publish,
    require_start,
    run,
)

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Halves(attacks.Attack):
    """Every second image by the untargeted margin, the others towards a class drawn for each."""

    steps: int

    @property
    def name(self) -> str:
        return "halves"

    def _perturb(
        self, model: attacks.Model, images: Tensor, labels: Tensor, rng: attacks.PerNetworkRNG
    ) -> Tensor:
        points = torch.empty_like(images)
        for start, make in enumerate((margin, random_targets)):
            some = slice(start, None, 2)
            attack = make(self.threat, self.steps)
            points[:, some] = attack.perturb(model, images[:, some], labels[:, some], rng.seeds)
        return points

    def _run(
        self, model: attacks.Model, active_set: attacks.ActiveSet, rng: attacks.PerNetworkRNG
    ) -> None:
        points = self._perturb(model, active_set.all_images, active_set.all_labels, rng)
        points = active_set.pack(points)
        broken = attacks.misclassified(attacks.evaluate(model, points), active_set.labels)
        active_set.mark_adversarial(points, broken)


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


ValueAttack = Callable[[attacks.Threat, int], attacks.Attack]
"""Makes the attack of a threat and a number of steps."""
CANDIDATES: dict[str, ValueAttack] = {
    **VALUE_ATTACKS,
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
        default_factory=lambda: TrainConfig.of(
            dataset="mnist", objective="value", epsilon=0.2, max_robustness_gap=1.0
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
    """names of the value attacks to compare now, beside those run before; default: all"""
    work: Path = Path("runs/compare-value-attacks")
    """folder of the figures of each"""
    out: Path = RESULTS / "measurers.json"
    """the table as JSON"""


class CandidateAdversary(Adversary):
    """What attacks the images of a step, with another value attack than the settings name."""

    def __init__(self, config: TrainConfig, dataset: Dataset, make: ValueAttack):
        super().__init__(config, dataset.info)
        self.make = make

    def value_attack(self, threat: attacks.Threat, progress: float) -> attacks.Attack:
        return self.make(self.threat(threat, progress), self.attack_steps)


def trainer_of(name: str, config: TrainConfig, dataset: Dataset) -> Trainer:
    """A training whose V is fitted to that candidate."""
    trainer = Trainer(config, dataset, CPU)
    trainer.adversary = CandidateAdversary(config, dataset, CANDIDATES[name])
    return trainer


def seconds_a_step(config: CompareConfig, dataset: Dataset) -> dict[str, float]:
    """CPU time of a step with each candidate; in turn, so that a busy machine slows all alike."""
    trials = {name: trainer_of(name, config.train, dataset) for name in CANDIDATES}
    spent = dict.fromkeys(trials, 0.0)
    for turn in range(1 + ROUNDS):
        for name, trial in trials.items():
            start = time.process_time()
            trial.take_step()
            if turn > 0:  # the first one sets up
                spent[name] += (time.process_time() - start) / ROUNDS
    return spent


def trained(name: str, config: CompareConfig, steps: int, dataset: Dataset) -> Trainer:
    """A training by this candidate."""
    trainer = trainer_of(name, config.train.replace(steps=steps), dataset)
    while trainer.step < steps:
        trainer.take_step()  # without a check of SRA: all candidates get the same time
    return trainer


@torch.no_grad()
def figures(trainer: Trainer, name: str, config: CompareConfig, dataset: Dataset) -> dict[str, Any]:
    """How good samples of the trained generator are, and what the candidate makes of them."""
    settings = trainer.config
    seed = settings.optimisation.seed
    population = trainer.sample(config.samples, seed + 1)
    evaluator = Evaluator(settings.threat, "standard", 50, 1, config.images, seed)
    rows = evaluator.evaluate(population, dataset)
    own = CANDIDATES[name](settings.threat, settings.attack_steps)
    robustness, stage = Robustness(settings.threat), Stage(lambda threat: own, seed)
    images, labels = dataset.test.first(config.images)
    batch = prepare_batch([robustness], population, images, labels, stage)
    return {
        "steps": settings.optimisation.steps,
        "claimed": float(robustness(population, batch).mean()),
        **{key: statistics.fmean(row[key] for row in rows) for key in ("accuracy", "pgd", "sra")},
        "after": {
            attack: statistics.fmean(row["after"][attack] for row in rows)
            for attack in rows[0]["after"]
        },
    }


def main(config: CompareConfig) -> None:
    """Trains and judges by every candidate, prints the table and writes it."""
    require_start(config.train)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, CPU)
    rows: dict[str, Any] = {}
    costs = cached_json(config.work / "costs.json", lambda: seconds_a_step(config, dataset))
    for name in chosen(config.only, CANDIDATES, lambda name: [cell(config.work, name)]):
        steps = max(1, round(config.seconds / costs[name]))
        rows[name] = cached_json(
            cell(config.work, name),
            lambda n=name, s=steps: figures(trained(n, config, s, dataset), n, config, dataset),
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
