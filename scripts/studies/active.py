"""Is half of the measuring enough, if it is done where the value network is least sure?

A measure is told as a number alone, as a black box tells its own, and trained for through the value
network three times with the same seed: measured on all networks of each step, on the half that the
ensemble of value networks disagrees on most (`--measure-budget active`), and, as a control, on a
half that is drawn. A fourth run is trained for accuracy alone: only what exceeds it was gained.
Steps are as many in each. Samples are judged on test images: accuracy, and the measure with the
budget that figures are quoted at. Beside it stands how many networks the box was asked about.

The worst class of Fashion-MNIST can be learned from clean images, which are all that the value
network is shown for a number alone; robustness to Square cannot (scripts/results/LOG.md).

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
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Measure, Stage, build_measure, judged, measured, prepare_batch
from hypergen.measures.attacked import accuracies
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
    dataset="fashion-mnist",
    objective="value",
    epsilon=0.1,
    base="standard",
    steps=600,
    batch_size=256,
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
    measure: str = "worst-class"
    """what the box tells; as on the command line, such as square:queries=30"""
    weight: float = 0.9
    """of the box; what is left to 1 is that of accuracy"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the runs"""
    samples: int = 8
    """networks drawn from each generator"""
    images: int = 1000
    """test images that the measure is taken on; accuracy is over all"""
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
    """A measure as a function that tells a number alone; counts the networks it was asked about."""

    def __init__(self, measure: Measure):
        self.measure = measure
        self.asked = 0

    def __call__(self, population: Population, images: Tensor, labels: Tensor) -> Tensor:
        self.asked += len(population)
        stage = Stage(attacks.PGD, seed=0)
        batch = prepare_batch([self.measure], population, images, labels, stage)
        return measured([self.measure], population, batch)[:, 0]


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
    measure = build_measure(MeasureSpec.parse(f"{config.measure}=1"), config.train.threat)
    box = Box(measure)
    MEASURES.register("box")(box)
    try:
        trainer = trainer_of(config, way, seed, dataset)
        started = time.process_time()
        if trainer.from_base:
            trainer.pretrain_value()
        train(trainer, lambda state: None)
    finally:
        MEASURES.drop("box")
    cost = {"asked": box.asked, "seconds": time.process_time() - started}
    population = trainer.sample(config.samples, seed=1)
    stage = Stage(lambda threat: attacks.PGD(threat, steps=50), seed=0)
    told = judged([measure], population, *dataset.test.first(config.images), stage)
    accuracy = accuracies(population, *dataset.test.first(len(dataset.test)))
    return {"accuracy": float(accuracy.mean()), "box": float(told.mean()), **cost}


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
                f"{mean['asked']:,.0f}",
                f"{mean['seconds']:.0f}",
            )
        )
    headers = ("measured", "accuracy", "box", "by seed", "networks asked", "seconds of a core")
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
