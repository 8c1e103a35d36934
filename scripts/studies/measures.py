"""Can networks be trained for what can only be measured? One measure after the other, and none.

For each measure a generator is trained through the value network alone, half for accuracy and half
for the measure, and beside it one of the same seed for accuracy alone. The third is the best that
does without a value network: the same generator by `direct`, whose losses see the changed images or
weights (those of weights "straight through"), and for a black box evolution strategies at the cost
of the first (see `evolution`). Samples are judged on test images by the measure, with the budget
that figures are quoted at, and by an implementation that is not ours, on all of them (see
`second_opinions`). Runs and figures are kept: a killed study goes on.

    HYPERGEN_DATA=... python -m scripts.studies.measures
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.base import prepare_base
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import (
    Batch,
    LogitMeasure,
    Measure,
    Stage,
    build_measure,
    judged,
    measured,
)
from hypergen.measures.attacked import accuracies
from hypergen.models.bundle import fresh_target
from hypergen.report.tables import Table, percent
from hypergen.storage.weights import load_network
from hypergen.training.length import with_steps
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    chosen,
    device,
    ensure_same_settings,
    generator,
    load,
    publish,
    run,
)
from scripts.studies.evolution import evolve
from scripts.studies.second_opinions import second_opinion
from targets import Population

TRAIN = TrainConfig.of(dataset="mnist", objective="value", epsilon=0.1, base="standard", steps=600)
MEASURES = (
    "int8:bits=3",
    "int8:bits=2",
    "pruned:share=0.8",
    "weight-noise:std=0.5",
    "contrast:factor=0.15",
    "worst-class",
    "calibration",
    "square:queries=30",
)


FORWARD_PASSES = 4
"""What the value network's way costs a network and step, in forward passes: the network is measured
and differentiated. So many networks evolution may measure."""


@dataclass(frozen=True)
class MeasuresConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps and images cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of all generators; measures and seeds are those below"""
    measures: tuple[str, ...] = MEASURES
    """what is trained for, each beside accuracy"""
    only: tuple[str, ...] = ()
    """measures to do now, beside those done before; default: all"""
    weight: float = 0.5
    """of the measure; what is left to 1 is that of accuracy"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the runs"""
    samples: int = 8
    """networks drawn from each generator"""
    images: int = 1000
    """test images that the measure is taken on; accuracy is over all"""
    work: Path = Path("runs/measures")
    """folder of the generators and their figures"""
    out: Path = RESULTS / "measures.json"
    """the figures as JSON"""


QUICK = MeasuresConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", steps=100),
    seeds=(0,),
    samples=2,
    images=100,
)


def samples(
    config: MeasuresConfig, asked: str | None, seed: int, dataset: Dataset, direct: bool = False
) -> Population:
    """Samples of a generator trained for accuracy and a measure, or for accuracy alone."""
    weights = ["accuracy=1"]
    if asked is not None:
        weights = [f"accuracy={1 - config.weight}", f"{asked}={config.weight}"]
    name = f"{(asked or 'accuracy').replace(':', '-')}{'-direct' if direct else ''}-{seed}"
    settings = config.train.replace(measure=tuple(weights), seed=seed)
    if direct:
        settings = settings.replace(objective="direct")
    sampler = generator(config.work / name, settings, dataset)
    return sampler.sample(config.samples, seed=1)


def alternative(config: MeasuresConfig, asked: str, seed: int, dataset: Dataset) -> Population:
    """Networks trained for a measure without a value network."""
    measure = measure_of(config, asked)
    if isinstance(measure, LogitMeasure):
        return samples(config, asked, seed, dataset, direct=True)
    both = [measure_of(config, "accuracy"), measure]
    weights = torch.tensor([1 - config.weight, config.weight], dtype=torch.float64)
    size = with_steps(config.train, dataset).optimisation

    def fitness(networks: Population, images: Tensor, labels: Tensor) -> Tensor:
        return measured(both, networks, Batch(images, labels)) @ weights

    folder = config.work / f"accuracy-{seed}"
    base = prepare_base(config.train.replace(seed=seed), dataset, device(), folder)
    start = fresh_target(config.train.target, config.train.activation, dataset.info)
    if base is not None:
        start = load_network(base).to(device())
    count = FORWARD_PASSES * size.length * size.population
    return evolve(start, fitness, dataset.train, count, size.batch_size, seed)


def measure_of(config: MeasuresConfig, asked: str) -> Measure:
    """The measure asked for, such as pruned:share=0.8."""
    return build_measure(MeasureSpec.parse(f"{asked}=1"), config.train.threat)


@torch.no_grad()
def figures(
    config: MeasuresConfig, population: Population, asked: str, dataset: Dataset
) -> dict[str, float]:
    """Mean accuracy and measure of networks on test images, and "other", a second opinion of it."""
    threat, measure = config.train.threat, measure_of(config, asked)
    images, labels = dataset.test.first(config.images)
    stage = Stage(lambda threat: attacks.PGD(threat, steps=50), seed=0)
    everything = dataset.test.first(len(dataset.test))
    accuracy = accuracies(population, *everything)
    opinion = second_opinion(asked, threat.epsilon)
    modules = [module.cpu() for module in population]
    others = [opinion(module, *(each.cpu() for each in everything)) for module in modules]
    return {
        "accuracy": float(accuracy.mean()),
        "measure": float(judged([measure], population, images, labels, stage).mean()),
        "other": statistics.fmean(others),
    }


def row(config: MeasuresConfig, dataset: Dataset, asked: str, seed: int) -> dict[str, Any]:
    """Figures of samples trained for a measure, and of those that were not."""
    found = {}
    for kind, wanted in (("with", asked), ("without", None)):
        networks = samples(config, wanted, seed, dataset)
        found[kind] = figures(config, networks, asked, dataset)
    return found


def other_way(config: MeasuresConfig, dataset: Dataset, asked: str, seed: int) -> dict[str, Any]:
    """Figures of networks trained without a value network."""
    networks = alternative(config, asked, seed, dataset)
    return {"without V": figures(config, networks, asked, dataset)}


def table(rows: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row a measure, means over seeds."""

    def mean(cells: Sequence[dict[str, Any]], kind: str, key: str) -> float:
        return statistics.fmean(each[kind][key] for each in cells)

    lines = []
    for name, cells in rows.items():
        gains = [each["with"]["measure"] - each["without"]["measure"] for each in cells]
        cost = mean(cells, "without", "accuracy") - mean(cells, "with", "accuracy")
        lines.append(
            (
                name,
                percent(mean(cells, "without", "measure"), 1),
                percent(mean(cells, "with", "measure"), 1),
                f"{percent(min(gains), 1)} to {percent(max(gains), 1)}",
                percent(mean(cells, "without", "other"), 1),
                percent(mean(cells, "with", "other"), 1),
                percent(mean(cells, "with", "accuracy"), 1),
                percent(cost, 1),
                percent(mean(cells, "without V", "measure"), 1),
                percent(mean(cells, "without V", "accuracy"), 1),
            )
        )
    headers = (
        *("measure", "not trained for", "trained for", "gain by seed"),
        *("not, second opinion", "trained, second opinion", "accuracy", "its cost"),
        *("without V", "its accuracy"),
    )
    return Table(headers, lines, ["% of test images, means of samples and seeds"])


def main(config: MeasuresConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())

    def at(name: str, seed: int) -> Path:
        return cell(config.work, f"{name.replace(':', '-')}, {seed}")

    names = chosen(
        config.only, config.measures, lambda name: [at(name, seed) for seed in config.seeds]
    )
    # Seed by seed: a study that is stopped has every measure once before it has any twice.
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in config.seeds:
        for name in names:
            figures_of = partial(row, config, dataset, name, seed)
            found = cached_json(at(name, seed), figures_of)
            more = partial(other_way, config, dataset, name, seed)
            rows[name].append(found | cached_json(at(f"{name}, without V", seed), more))
    print(table(rows))
    publish(config.out, settings, {"measures": rows})


if __name__ == "__main__":
    run(main, MeasuresConfig, __doc__, QUICK)
