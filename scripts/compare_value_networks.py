"""Can the robustness of a network be told from its weights? Value networks judged against SRA.

A gallery of networks of every quality is measured once: samples of several runs at several ages,
FBF networks of several radii and lengths of training, and noise around them. Every kind of value
network is then fitted to accuracy and standard robust accuracy (SRA) of most networks of the first
runs, and asked about the others: held-out networks of those runs, whole runs it has seen nothing
of, and networks that no generator made. Beside them stands `set` as a run leaves it, fitted while
it steered, to the run's own measurer. A killed run of this script continues where it was.

    HYPERGEN_DATA=... python -m scripts.compare_value_networks
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergen import checkpoint, data
from hypergen.baseline import BaselineConfig, fresh_target, train_baseline
from hypergen.config import TrainConfig
from hypergen.evaluate import Judge
from hypergen.measure import MEASURERS, MEASURES, Batch, attacked_batch
from hypergen.report import agreement
from hypergen.train import Networks, Training
from hypergen.value_network import EnsembleValueNetwork, ValueNetwork, build_value_network
from scripts.cells import RESULTS, claim, publish, require_start, run
from targets import Population

CPU = torch.device("cpu")
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
NOISE = 0.05, 0.1, 0.2, 0.4, 0.8
"""Sizes of the noise around FBF networks, relative to a layer's typical weight."""


@dataclass(frozen=True)
class CompareConfig:
    """What the gallery holds, how it is measured, and how value networks are fitted."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(dataset="mnist", epsilon=0.2, steps=400)
    )
    """settings shared by all runs"""
    objectives: tuple[str, ...] = ("direct", "value", "direct", "value")
    """of the runs, each with a seed of its own; the first two are fitted to"""
    ages: int = 8
    """how often a run is sampled on its way"""
    samples: int = 5
    """networks drawn each time"""
    fbf: int = 3
    """seeds of FBF"""
    epochs: tuple[int, ...] = (1, 2, 4)
    """of FBF"""
    radii: tuple[float, ...] = (0.5, 1.0)
    """of FBF, relative to the radius judged"""
    images: int = 100
    """test images for SRA; accuracy is over all"""
    seen: int = 512
    """validation images that a value network looks at"""
    steps: int = 1000
    """of fitting"""
    work: Path = Path("runs/compare-value-networks")
    """folder of the measured networks"""
    out: Path = RESULTS / "value_networks.json"
    """the table as JSON"""


@dataclass(frozen=True)
class Group:
    """Measured networks of one origin: theta [P,D], accuracy, PGD-50 and SRA [P,3]."""

    theta: Tensor
    figures: Tensor
    seconds: float

    def choose(self, chosen: Tensor) -> "Group":
        """Some of them."""
        return Group(self.theta[chosen], self.figures[chosen], self.seconds)

    @property
    def truth(self) -> Tensor:
        """[P,2], accuracy and SRA."""
        return self.figures[:, [0, 2]]


def generated(config: CompareConfig, seed: int, objective: str, dataset: data.Dataset) -> Tensor:
    """Samples of a run at several ages [P,D]; its value network stays in the work folder."""
    settings = replace(config.train, seed=seed, objective=objective, measure_every=1)
    training = Training(settings, dataset, CPU)
    ages = {round(settings.steps * (age / config.ages) ** 2) for age in range(1, config.ages + 1)}
    drawn = []
    while training.step < settings.steps:
        training.advance()
        if training.step in ages:
            drawn.append(training.sample(config.samples, training.step).theta)
    checkpoint.save(config.work / f"value-{seed}.safetensors", training.value.state_dict())
    return torch.cat(drawn)


def direct_networks(config: CompareConfig, dataset: data.Dataset) -> Tensor:
    """FBF networks from weak to strong [P,D]."""
    settings = config.train
    networks = [
        train_baseline(
            BaselineConfig(
                dataset=settings.dataset,
                target=settings.target,
                activation=settings.activation,
                epsilon=settings.threat.epsilon * radius,
                epochs=epochs,
                seed=seed,
            ),
            dataset,
            CPU,
            show=False,
        )
        for seed in range(config.fbf)
        for epochs in config.epochs
        for radius in config.radii
    ]
    return Population.of(networks).theta


def with_noise(population: Population, count: int, seed: int) -> Tensor:
    """`count` networks of a population, each with noise of one of the sizes [P,D]."""
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(NOISE)[torch.arange(count) % len(NOISE), None]
    chosen = torch.randint(len(population), (count,), generator=rng)
    noise = torch.randn(count, population.layout.size, generator=rng)
    return population.theta[chosen] + sizes * population.layout.scales() * noise


def gallery(config: CompareConfig, dataset: data.Dataset) -> Iterator[tuple[str, Group]]:
    """Every group with its measured figures, made or read from the work folder."""
    settings = config.train
    module = fresh_target(settings.target, settings.activation, settings.dataset)
    judge = Judge(settings.threat, "standard", restarts=1, images=config.images)
    fbf = Population.of([module])
    names = [f"run {seed}" for seed in range(len(config.objectives))]
    for name in [*names, "fbf", "fbf + noise"]:
        path = config.work / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            if name == "fbf":
                theta = direct_networks(config, dataset)
            elif name == "fbf + noise":
                theta = with_noise(fbf, 6 * len(NOISE), settings.seed)
            else:
                seed = names.index(name)
                theta = generated(config, seed, config.objectives[seed], dataset)
            start = time.process_time()
            rows = judge.judge(Population(module, theta), dataset, name)
            seconds = (time.process_time() - start) / len(rows)  # of accuracy and PGD-50 too
            figures = torch.tensor([[row[n] for n in ("accuracy", "pgd", "sra")] for row in rows])
            checkpoint.save(path, {"theta": theta, "figures": figures, "seconds": seconds})
        group = Group(**checkpoint.load(path))
        if name == "fbf":
            fbf = Population(module, group.theta)
        yield name, group


def looked_at(config: CompareConfig, theta: Tensor, dataset: data.Dataset) -> Batch:
    """The images with what the default measurer makes of them."""
    settings = config.train
    module = fresh_target(settings.target, settings.activation, settings.dataset)
    measurer = MEASURERS[settings.measurer](settings.threat, settings.attack_steps)
    images, labels = dataset.val.first(config.seen)
    return attacked_batch(Population(module, theta), images, labels, measurer, settings.seed)


def fit(value: ValueNetwork, evidence: Tensor, truth: Tensor, steps: int) -> None:
    """Fits a value network to evidence [P,...] and truth [P,2]."""
    optimizer = torch.optim.Adam(value.parameters(), lr=2e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randperm(len(truth), generator=rng)[:64]
        optimizer.zero_grad()
        value.loss(evidence[chosen], truth[chosen]).backward()
        optimizer.step()
        rate.step()


def compare(config: CompareConfig, dataset: data.Dataset) -> dict[str, Any]:
    """Fits every kind and asks it about every held-out group."""
    settings = config.train
    module = fresh_target(settings.target, settings.activation, settings.dataset)
    groups = dict(gallery(config, dataset))
    names = list(groups)
    rng = torch.Generator().manual_seed(settings.seed)
    fitted, held = [], []
    for name in names[:FITTED_RUNS]:
        order = torch.randperm(len(groups[name].theta), generator=rng)
        kept = len(order) // 5
        fitted.append(groups[name].choose(order[kept:]))
        held.append(groups[name].choose(order[:kept]))
    asked = {
        "held out of its runs": held,
        "other runs": [groups[name] for name in names[FITTED_RUNS : len(config.objectives)]],
        "fbf": [groups["fbf"]],
        "fbf + noise": [groups["fbf + noise"]],
    }
    asked["all of these"] = [group for some in asked.values() for group in some]

    def seen(theta: Tensor) -> tuple[Population, Batch]:
        return Population(module, theta), looked_at(config, theta, dataset)

    population, batch = seen(torch.cat([group.theta for group in fitted]))
    truth = torch.cat([group.truth for group in fitted])
    tests = {}
    for name, some in asked.items():
        theta = torch.cat([group.theta for group in some])
        tests[name] = (*seen(theta), torch.cat([group.figures for group in some]))

    values: dict[str, ValueNetwork] = {}
    for name, (kind, members) in KINDS.items():
        torch.manual_seed(settings.seed)
        shape = data.image_shape(settings.dataset)
        values[name] = build_value_network(kind, module, shape, len(MEASURES), members)
        with torch.no_grad():
            evidence = values[name].evidence(population, batch)
        fit(values[name], evidence, truth, config.steps)
    for seed in range(FITTED_RUNS):
        left = Networks.fresh(settings).value
        left.load_state_dict(checkpoint.load(config.work / f"value-{seed}.safetensors"))
        values[f"set, as run {seed} left it"] = left

    rows: dict[str, Any] = {}
    for name, value in values.items():
        rows[name] = {}
        for group, (networks, shown, figures) in tests.items():
            with torch.no_grad():
                evidence = value.evidence(networks, shown)
                estimates = value(evidence)
                unsure = value.uncertainty(evidence)
            told = [{"accuracy": float(a), "robustness": float(r)} for a, _, r in figures]
            rows[name][group] = agreement(estimates, told)
            if isinstance(value, EnsembleValueNetwork):
                error = (estimates - figures[:, [0, 2]]).abs().mean(0)
                rows[name][group]["error"] = error.tolist()
                rows[name][group]["uncertainty"] = unsure.mean(0).tolist()
    measuring = sum(group.seconds for group in groups.values()) / len(groups)
    start = time.process_time()
    with torch.no_grad():
        values["set"](values["set"].evidence(*seen(groups["fbf"].theta)))
    seconds = (time.process_time() - start) / len(groups["fbf"].theta)
    every = torch.cat([group.figures for group in groups.values()])
    return {
        "networks": {name: len(group.theta) for name, group in groups.items()},
        "fitted": len(truth),
        "sra": {"mean": float(every[:, 2].mean()), "std": float(every[:, 2].std())},
        "cost": {"estimate": seconds, "measure": measuring, "ratio": measuring / seconds},
        "value_networks": rows,
    }


def main(config: CompareConfig) -> None:
    """Measures, fits, prints the table and writes it."""
    require_start(config.train)
    settings = claim(config.work, config)
    found = compare(config, data.load(config.train.dataset))
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
