"""Is half of the measuring enough, if it is done where the value network is least sure?

A black box that is dear, robustness to Square as a plain function, is trained for through the value
network three times with the same seed: measured on all networks of each step, on the half that the
ensemble of value networks disagrees on most (`--measure-budget active`), and, as a control, on a
half that is drawn. A fourth run is trained for accuracy alone: only what exceeds it was gained.
Steps are as many in each. Samples are judged on test images: accuracy, and Square with ten times
the queries or more. Beside it stands how often the box was asked.

    HYPERGEN_DATA=... python -m scripts.studies.active
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.base import prepare_base
from hypergen.measures import Square, Stage, judged
from hypergen.measures.attacked import accuracies, attack_population
from hypergen.report.tables import Table, percent
from hypergen.storage.weights import load_network
from hypergen.training.loop import train
from hypergen.training.trainer import Trainer
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    chosen,
    device,
    ensure_same_settings,
    load,
    publish,
    run,
)
from targets import Population

TRAIN = TrainConfig.of(
    dataset="mnist",
    objective="value",
    epsilon=0.1,
    base="standard",
    steps=600,
    population=8,
    value_members=4,
    max_robustness_gap=1.0,  # for the comparisons would ask the box too
)
WAYS = "none", "all", "active", "random"
"""Of choosing the networks that the box is asked about; none: it is not trained for."""


@dataclass(frozen=True)
class ActiveConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps and images cut down to a minute on two cores"""
    train: TrainConfig = TRAIN
    """of all runs; measures, budget and seeds are those below"""
    only: tuple[str, ...] = ()
    """ways of measuring to do now, beside those done before; default: all"""
    queries: int = 30
    """of Square, an image, each time that the box is asked in training"""
    weight: float = 0.5
    """of the box; what is left to 1 is that of accuracy"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the runs"""
    samples: int = 8
    """networks drawn from each generator"""
    images: int = 1000
    """test images that samples are attacked on; accuracy is over all"""
    work: Path = Path("runs/active")
    """folder of the networks to start from, and of the figures"""
    out: Path = RESULTS / "active.json"
    """the figures as JSON"""


QUICK = ActiveConfig(
    quick=True,
    train=TRAIN.replace(
        dataset="digits",
        image_size=8,
        target="mlp",
        steps=20,
        population=4,
        batch_size=32,
        value_members=2,
        value_steps=8,
    ),
    seeds=(0,),
    samples=2,
    images=50,
)


class Box:
    """Robustness to Square as a function that tells a number alone; counts what it measured."""

    def __init__(self, config: ActiveConfig):
        self.attack = attacks.Square(config.train.threat, queries=config.queries)
        self.measured = 0

    def __call__(self, population: Population, images: Tensor, labels: Tensor) -> Tensor:
        self.measured += len(population)
        return attack_population(population, images, labels, self.attack, 0).robust_accuracy


def trainer_of(config: ActiveConfig, way: str, seed: int, dataset: Dataset) -> Trainer:
    """A run that is about to take its first step."""
    asked = (f"accuracy={1 - config.weight}", f"box={config.weight}")
    settings = config.train.replace(
        measure=("accuracy=1",) if way == "none" else asked,
        measure_budget="active" if way in ("active", "random") else "all",
        seed=seed,
    )
    folder = config.work / f"base-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    base = prepare_base(settings, dataset, device(), folder)
    trainer = Trainer(settings, dataset, device(), None if base is None else load_network(base))
    if way == "random":
        rng, count = torch.Generator().manual_seed(seed), len(trainer.measures)
        trainer.models.value.uncertainty = lambda features: torch.rand(
            len(features), count, generator=rng
        )
    return trainer


def row(config: ActiveConfig, dataset: Dataset, way: str, seed: int) -> dict[str, Any]:
    """Figures of samples of a generator that is trained so, and what its training took."""
    box = Box(config)
    MEASURES.register("box")(box)
    try:
        trainer = trainer_of(config, way, seed, dataset)
        started = time.perf_counter()
        if trainer.from_base:
            trainer.pretrain_value()
        train(trainer, lambda state: None)
    finally:
        MEASURES.drop("box")
    cost = {"measured": box.measured, "seconds": time.perf_counter() - started}
    population = trainer.sample(config.samples, seed=1)
    stage = Stage(lambda threat: attacks.PGD(threat, steps=50), seed=0)
    square = judged(
        [Square(config.train.threat)], population, *dataset.test.first(config.images), stage
    )
    accuracy = accuracies(population, *dataset.test.first(len(dataset.test)))
    return {"accuracy": float(accuracy.mean()), "box": float(square.mean()), **cost}


def table(rows: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row a way of measuring, means over seeds."""
    lines = []
    for way, cells in rows.items():
        mean = {key: statistics.fmean(each[key] for each in cells) for key in cells[0]}
        boxes = [each["box"] for each in cells]
        lines.append(
            (
                way,
                percent(mean["accuracy"], 1),
                percent(mean["box"], 1),
                f"{percent(min(boxes), 1)} to {percent(max(boxes), 1)}",
                f"{mean['measured']:,.0f}",
                f"{mean['seconds']:.0f}",
            )
        )
    headers = ("measured", "accuracy", "Square", "by seed", "times", "seconds")
    return Table(headers, lines, ["% of test images, means of samples and seeds"])


def main(config: ActiveConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())

    def at(way: str, seed: int) -> Path:
        return cell(config.work, f"{way}-{seed}")

    names = chosen(config.only, WAYS, lambda way: [at(way, seed) for seed in config.seeds])
    # Seed by seed: a study that is stopped has every way once before it has any twice.
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in names}
    for seed in config.seeds:
        for way in names:
            figures = cached_json(at(way, seed), partial(row, config, dataset, way, seed))
            rows[way].append(figures)
    print(table(rows))
    publish(config.out, settings, {"ways": rows})


if __name__ == "__main__":
    run(main, ActiveConfig, __doc__, QUICK)
