"""Can the robustness of a network be told from its weights? Value networks judged against SRA.

A gallery of networks of every quality is measured once: samples of several runs at several ages,
FBF networks of several radii and lengths of training, and noise around them. Every kind of value
network is then fitted to accuracy and standard robust accuracy (SRA) of most networks of the first
runs, and asked about the others: held-out networks of those runs, whole runs it has seen nothing
of, and networks that no generator made. Beside them stands `set` as a run leaves it, fitted while
it steered, to the run's own value attack. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare.value_networks
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hypergen.data import Dataset
from hypergen.evaluation.statistics import agreement
from hypergen.measures import VALUE_ATTACKS, Batch, Stage, build_measures, prepare_batch
from hypergen.models.bundle import ModelBundle
from hypergen.models.value_network import (
    EnsembleValueNetwork,
    ValueNetwork,
    build_value_network,
)
from hypergen.storage import checkpoint
from scripts.common import ensure_same_settings, load, publish, require_start, run
from scripts.compare.gallery import CPU, CompareConfig, Group, gallery, target_of
from targets import Population

KINDS: dict[str, tuple[str, int]] = {
    "set": ("set", 1),
    "set, ensemble of 5": ("set", 5),
    "probe": ("probe", 1),
    "statistics": ("statistics", 1),
    "mlp": ("mlp", 1),
}
"""Name -> (kind, members)."""
FITTED_RUNS = 2
"""How many of the runs the value networks are fitted to."""


@dataclass(frozen=True)
class Questions:
    """Networks that value networks are asked about, what these look at, and the answers.

    figures: accuracy, PGD-50 and SRA [P,3].
    """

    population: Population
    batch: Batch
    figures: Tensor

    @classmethod
    def of(cls, groups: list[Group], config: CompareConfig, dataset: Dataset) -> "Questions":
        """About all networks of these groups; images attacked by the run's value attack."""
        population = Population(
            target_of(config, dataset), torch.cat([group.theta for group in groups])
        )
        adversary, threat = config.train.adversary, config.train.threat
        attack = VALUE_ATTACKS[adversary.value_attack](threat, config.train.attack_steps)
        images, labels = dataset.val.first(config.seen)
        stage = Stage(lambda threat: attack, config.train.optimisation.seed)
        measures = build_measures(config.train)
        batch = prepare_batch(measures, population, images, labels, stage)
        return cls(population, batch, torch.cat([group.figures for group in groups]))

    @property
    def truth(self) -> Tensor:
        """[P,2], accuracy and SRA."""
        return self.figures[:, [0, 2]]

    @torch.no_grad()
    def features(self, value: ValueNetwork) -> Tensor:
        """[P,...], what a value network sees of them."""
        return value.features(self.population, self.batch)

    @torch.no_grad()
    def answered(self, value: ValueNetwork) -> dict[str, Any]:
        """How well a value network answers."""
        features = self.features(value)
        estimates, uncertainty = value(features), value.uncertainty(features)
        truth = [{"accuracy": float(a), "robustness": float(r)} for a, r in self.truth]
        row = agreement(("accuracy", "robustness"), estimates, truth)
        if isinstance(value, EnsembleValueNetwork):
            row["error"] = (estimates - self.truth).abs().mean(0).tolist()
            row["uncertainty"] = uncertainty.mean(0).tolist()
        return row


def fit(value: ValueNetwork, features: Tensor, truth: Tensor, steps: int) -> None:
    """Fits a value network to features [P,...] and truth [P,2]."""
    optimizer = torch.optim.Adam(value.parameters(), lr=2e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randperm(len(truth), generator=rng)[:64]
        optimizer.zero_grad()
        value.loss(features[chosen], truth[chosen]).backward()
        optimizer.step()
        rate.step()


def divided(
    config: CompareConfig, groups: dict[str, Group]
) -> tuple[list[Group], dict[str, list[Group]]]:
    """The networks that value networks are fitted to, and those that they are asked about."""
    names = list(groups)
    rng = torch.Generator().manual_seed(config.train.optimisation.seed)
    fitted, held = [], []
    for name in names[:FITTED_RUNS]:
        order = torch.randperm(len(groups[name].theta), generator=rng)
        count = len(order) // 5
        fitted.append(groups[name].choose(order[count:]))
        held.append(groups[name].choose(order[:count]))
    asked = {
        "held out of its runs": held,
        "other runs": [groups[name] for name in names[FITTED_RUNS : len(config.objectives)]],
        "fbf": [groups["fbf"]],
        "fbf + noise": [groups["fbf + noise"]],
    }
    asked["all of these"] = [group for some in asked.values() for group in some]
    return fitted, asked


def value_networks(
    config: CompareConfig, dataset: Dataset, known: Questions
) -> dict[str, ValueNetwork]:
    """Every kind, fitted to what is known, and those that the runs left."""
    values: dict[str, ValueNetwork] = {}
    module = target_of(config, dataset)
    for name, (kind, members) in KINDS.items():
        torch.manual_seed(config.train.optimisation.seed)
        shape = dataset.input_shape
        measures = build_measures(config.train)
        values[name] = build_value_network(
            kind, module, shape, dataset.num_classes, measures, members
        )
        fit(values[name], known.features(values[name]), known.truth, config.steps)
    for seed in range(FITTED_RUNS):
        left = ModelBundle.fresh(config.train, dataset.info).value
        left.load_state_dict(checkpoint.load(config.work / f"value-{seed}.safetensors"))
        values[f"set, as run {seed} left it"] = left
    return values


def compare(config: CompareConfig, dataset: Dataset) -> dict[str, Any]:
    """Fits every kind and asks it about every held-out group."""
    groups = dict(gallery(config, dataset))
    fitted, asked = divided(config, groups)
    known = Questions.of(fitted, config, dataset)
    questions = {name: Questions.of(some, config, dataset) for name, some in asked.items()}
    values = value_networks(config, dataset, known)
    rows = {
        name: {group: each.answered(value) for group, each in questions.items()}
        for name, value in values.items()
    }
    measuring = sum(group.seconds for group in groups.values()) / len(groups)
    start = time.process_time()
    features = Questions.of([groups["fbf"]], config, dataset).features(values["set"])
    with torch.no_grad():
        values["set"](features)
    seconds = (time.process_time() - start) / len(groups["fbf"].theta)
    every = torch.cat([group.figures for group in groups.values()])
    return {
        "networks": {name: len(group.theta) for name, group in groups.items()},
        "fitted": len(known.truth),
        "sra": {"mean": float(every[:, 2].mean()), "std": float(every[:, 2].std())},
        "cost": {"estimate": seconds, "measure": measuring, "ratio": measuring / seconds},
        "value_networks": rows,
    }


def main(config: CompareConfig) -> None:
    """Measures, fits, prints the table and writes it."""
    require_start(config.train)
    settings = ensure_same_settings(config.work, config)
    found = compare(config, load(config.train.data, CPU))
    groups = list(next(iter(found["value_networks"].values())))
    print(f"\nR2 / Kendall tau{'':<12}" + "".join(f"{group:>26}" for group in groups))
    for name, row in found["value_networks"].items():
        for measure in ("accuracy", "robustness"):
            cells = [
                " / ".join(
                    "-" if row[group][measure][key] is None else f"{row[group][measure][key]:.3f}"
                    for key in ("r2", "kendall_tau")
                )
                for group in groups
            ]
            print(f"{name + ', ' + measure:<28}" + "".join(f"{cell:>26}" for cell in cells))
    publish(config.out, settings, found)


if __name__ == "__main__":
    run(main, CompareConfig, __doc__)
