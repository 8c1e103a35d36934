"""Does a network have what its generator was asked for? One generator, many preferences.

A single generator is trained for ranges of weights of several measures at once. Then networks are
drawn for every preference of a grid over the simplex of these weights, 21 for three measures, and
judged on test images by each measure, with the budget that figures are quoted at. For each measure
stands Spearman's rank correlation between the weight that was asked and the figure that was got.
With `--alone` a generator is trained for each preference alone, as what can be expected at most.

    HYPERGEN_DATA=... python -m scripts.studies.preferences
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Stage, judged
from hypergen.measures.attacked import accuracies
from hypergen.report.tables import Table, percent
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    device,
    ensure_same_settings,
    generator,
    load,
    publish,
    run,
)

TRAIN = TrainConfig.of(
    dataset="mnist",
    epsilon=0.2,
    steps=2000,
    learning_rate=1e-3,
    max_robustness_gap=1.0,
    measure=("accuracy=0:1", "robustness=0:1", "int8:bits=2=0:1"),
)


@dataclass(frozen=True)
class PreferencesConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps and images cut down to a minute on two cores"""
    train: TrainConfig = TRAIN
    """of the generator; its measures have ranges of weights"""
    alone: bool = False
    """train a generator for each preference, and none for all"""
    parts: int = 5
    """in how many equal parts a weight of 1 is dealt out among the measures"""
    samples: int = 4
    """networks drawn for each preference"""
    images: int = 500
    """test images that measures are taken on; accuracy is over all"""
    work: Path = Path("runs/preferences")
    """folder of the generator and of the figures"""
    out: Path | None = None
    """the figures as JSON; by default preferences.json, or preferences-alone.json, beside all"""


QUICK = PreferencesConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", image_size=8, epsilon=None, target="mlp", steps=100),
    parts=2,
    samples=2,
    images=50,
)


def grid(count: int, parts: int) -> Iterator[tuple[float, ...]]:
    """All weights of `count` measures that are multiples of 1 / parts and sum to 1."""

    def dealt(count: int, left: int) -> Iterator[tuple[int, ...]]:
        if count == 1:
            yield (left,)
            return
        for own in range(left + 1):
            yield from ((own, *others) for others in dealt(count - 1, left - own))

    for shares in dealt(count, parts):
        yield tuple(share / parts for share in shares)


def row(
    config: PreferencesConfig, whole: Sampler | None, dataset: Dataset, weights: Sequence[float]
) -> dict[str, Any]:
    """What was asked, and the mean of each measure over networks drawn for it.

    whole: draws for any preference; None has a generator trained for this one alone.
    """
    sampler = whole or trained_alone(config, dataset, weights)
    names = [measure.name for measure in sampler.measures]
    asked = dict(zip(names, weights, strict=True))
    population = sampler.sample(config.samples, seed=1, prefer=asked if whole else None)
    stage = Stage(lambda threat: attacks.PGD(threat, steps=50), seed=0)
    images, labels = dataset.test.first(config.images)
    others = judged(sampler.measures[1:], population, images, labels, stage).mean(0).tolist()
    accuracy = accuracies(population, *dataset.test.first(len(dataset.test))).mean()
    return {"asked": asked, "got": dict(zip(names, [float(accuracy), *others], strict=True))}


def trained_alone(config: PreferencesConfig, dataset: Dataset, weights: Sequence[float]) -> Sampler:
    """What draws networks of a generator for this preference alone."""
    asked = zip(names_of(config), weights, strict=True)
    settings = config.train.replace(measure=tuple(f"{name}={weight}" for name, weight in asked))
    return generator(config.work / f"generator-{dashed(weights)}", settings, dataset)


def names_of(config: PreferencesConfig) -> list[str]:
    """The measures that are trained for."""
    return [MeasureSpec.parse(text).name for text in config.train.objective.measures]


def dashed(weights: Sequence[float]) -> str:
    """Weights as the name of a file."""
    return "-".join(f"{weight:g}" for weight in weights)


def correlations(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Spearman's rank correlation between what was asked and got, by measure.

    0 where all got the same.
    """
    from scipy.stats import spearmanr  # here, for it takes a second

    found = {}
    for name in rows[0]["asked"]:
        asked, got = ([row[kind][name] for row in rows] for kind in ("asked", "got"))
        statistic = spearmanr(asked, got).statistic if len(set(got)) > 1 else 0  # pyright: ignore
        found[name] = float(statistic)
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a preference: the weights that were asked, and the figures that were got."""
    names = list(rows[0]["asked"])
    lines = [
        (
            ", ".join(f"{each['asked'][name]:g}" for name in names),
            *(percent(each["got"][name], 1) for name in names),
        )
        for each in rows
    ]
    told = [f"{name} {value:.2f}" for name, value in correlations(rows).items()]
    notes = [
        f"weights of {', '.join(names)}; % of test images, means of samples",
        f"Spearman's rank correlation of asked and got: {', '.join(told)}",
    ]
    return Table(("asked", *names), lines, notes)


def main(config: PreferencesConfig) -> None:
    """Trains and judges, prints the table and writes it."""
    if not config.train.objective.has_many_preferences:
        raise InputError("--train.objective.measures need ranges of weights, such as accuracy=0:1")
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    whole = None
    if not config.alone:
        whole = generator(config.work / "generator", config.train, dataset)
    rows = [
        cached_json(
            cell(config.work, dashed(weights)), partial(row, config, whole, dataset, weights)
        )
        for weights in grid(len(names_of(config)), config.parts)
    ]
    print(table(rows))
    name = "preferences-alone.json" if config.alone else "preferences.json"
    publish(config.out or RESULTS / name, settings, {"rows": rows, "spearman": correlations(rows)})


if __name__ == "__main__":
    run(main, PreferencesConfig, __doc__, QUICK)
