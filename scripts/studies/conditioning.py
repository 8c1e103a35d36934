"""How do preferences best move the weights that a generator makes? Ways to condition it, compared.

Every way is trained alike (range of beta, objective, steps, seed) and judged alike at several
betas. Beside them stand generators that are trained for one beta alone, and networks trained
directly: ordinarily for beta 0, by PGD for beta 1. What is chosen is chosen by accuracy and PGD-50
on validation images; test images only tell. Ways that were not taken are defined here and nowhere
else. A killed run of this script continues where it was.

A way is better than offsets with a random prior of 0.5 if its hypervolume on validation images is
larger for every seed, and on average it is as accurate at the lowest beta and as robust at the
highest, and its samples disagree at least half as often.

    HYPERGEN_DATA=... python -m scripts.studies.conditioning
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.base import direct_recipe
from hypergen.measures.attacked import disagreement, predictions
from hypergen.report.tables import Table, percent
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
    require_start,
    run,
    trained,
)
from scripts.studies.conditioning_ways import WAYS
from targets import Population

TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.2, beta="0:1", prior_scale=0.5)
BEFORE, ALONE, DIRECT = "offsets", "alone", "direct"
"""Offsets at five knots, prior 0.5; a generator for each beta; networks trained directly."""


@dataclass(frozen=True)
class ConditioningConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """digits, a small target, steps and images cut down to minutes a way"""
    train: TrainConfig = TRAIN
    """of every way; its beta must be a range"""
    only: tuple[str, ...] = ()
    """ways to train now, and alone and direct, beside those trained before; default: all"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the trainings"""
    betas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """at which networks are judged"""
    samples: int = 4
    """networks drawn at each"""
    images: int = 500
    """images attacked by PGD; accuracy is over all"""
    sra_of: tuple[str, ...] = ()
    """ways whose networks get standard robust accuracy on test images as well"""
    sra_images: int = 500
    """images for that"""
    work: Path = Path("runs/conditioning")
    """folder of the generators and their figures"""
    out: Path = RESULTS / "conditioning.json"
    """the figures as JSON"""


QUICK = ConditioningConfig(
    quick=True,
    train=TRAIN.replace(
        dataset="digits", target="mlp", epsilon=None, steps=400, max_robustness_gap=1.0
    ).replace(measure_every=400, value_steps=1),  # what is descended needs no value network
    images=200,
    sra_images=100,
)


def figures(config: ConditioningConfig, population: Population, dataset: Dataset) -> dict[str, Any]:
    """What is said of the networks of one beta: means, by split; disagreement on test images."""
    found: dict[str, Any] = {}
    for split in ("val", "test"):
        judge = Evaluator(
            config.train.threat, restarts=1, images=config.images, split=split
        ).evaluate(population, dataset)
        found[split] = {n: statistics.fmean(row[n] for row in judge) for n in ("accuracy", "pgd")}
    images, _ = dataset.test.first(len(dataset.test))
    return {**found, "disagreement": disagreement(predictions(population, images))}


def networks(
    config: ConditioningConfig, name: str, seed: int, beta: float, dataset: Dataset
) -> Population:
    """The networks of a way at one beta."""
    folder = cell(config.work, f"{name}-{seed}").with_suffix("")
    if name == DIRECT:
        method = "pgd" if beta > 0 else "standard"
        recipe = direct_recipe(config.train, method, seed)
        path = folder.parent / f"{method}-{seed}.safetensors"
        return Population.of([trained(path, recipe, dataset, device())])
    settings = config.train.replace(seed=seed, **WAYS.get(name, {}))
    if name == ALONE:
        settings, folder = settings.replace(beta=str(beta), base=None), folder / f"{beta:g}"
    return generator(folder, settings, dataset).sample(config.samples, beta, seed=1)


def withstood(
    config: ConditioningConfig, population: Population, dataset: Dataset
) -> dict[str, Any]:
    """The mean standard robust accuracy of networks on test images."""
    judge = Evaluator(config.train.threat, "standard", restarts=1, images=config.sra_images)
    return {"sra": statistics.fmean(row["sra"] for row in judge.evaluate(population, dataset))}


def betas_of(config: ConditioningConfig, name: str) -> tuple[float, ...]:
    """Where a way is judged; direct training is there for the two ends alone."""
    return (config.betas[0], config.betas[-1]) if name == DIRECT else config.betas


def is_there(config: ConditioningConfig, name: str, seed: int) -> bool:
    """Whether all figures of a way were found before."""
    betas = betas_of(config, name)
    return all(cell(config.work, f"{name}-{seed}-{beta:g}").exists() for beta in betas)


def row(config: ConditioningConfig, dataset: Dataset, name: str, seed: int) -> dict[str, Any]:
    """The figures of a way by beta."""
    found = {}
    for beta in betas_of(config, name):
        drawn = partial(networks, config, name, seed, beta, dataset)
        path = cell(config.work, f"{name}-{seed}-{beta:g}")
        each = cached_json(path, lambda drawn=drawn: figures(config, drawn(), dataset))
        if name in config.sra_of:
            path = path.with_suffix(".sra.json")
            sra = cached_json(path, lambda drawn=drawn: withstood(config, drawn(), dataset))
            each = each | {"test": each["test"] | sra}
        found[f"{beta:g}"] = each
    return found


def volume(row: Mapping[str, Any], split: str, robustness: str, num_classes: int) -> float | None:
    """The hypervolume of accuracy and a figure of robustness; None where that was not measured."""
    points = [(each[split]["accuracy"], each[split].get(robustness)) for each in row.values()]
    known = None not in [point[1] for point in points]
    return hypervolume(points, num_classes) if known else None  # pyright: ignore


def summary(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]], num_classes: int
) -> dict[str, dict[str, Any]]:
    """By way: the means over its seeds of hypervolumes and of figures by beta.

    found: by way and seed the row of figures. "by seed": hypervolumes on validation images.
    """
    return {name: _means(seeds, num_classes) for name, seeds in found.items()}


def _means(
    seeds: Mapping[str, Mapping[str, Mapping[str, Any]]], num_classes: int
) -> dict[str, Any]:
    rows = list(seeds.values())
    volumes = {
        f"{split} {figure}": [volume(row, split, figure, num_classes) for row in rows]
        for split, figure in (("val", "pgd"), ("test", "pgd"), ("test", "sra"))
    }
    betas: dict[str, dict[str, float]] = {}
    for beta, first in rows[0].items():
        betas[beta] = {
            f"{split} {figure}": statistics.fmean(row[beta][split][figure] for row in rows)
            for split in ("val", "test")
            for figure in first[split]
        }
        betas[beta]["disagreement"] = statistics.fmean(row[beta]["disagreement"] for row in rows)
    return {
        "seeds": [*seeds],
        "hypervolume": {
            name: statistics.fmean(values)  # pyright: ignore
            for name, values in volumes.items()
            if None not in values
        },
        "by seed": volumes["val pgd"],
        "betas": betas,
    }


def is_better(reached: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether a way is better by the rule that stands at the top."""
    if not {name, BEFORE} <= reached.keys():
        return False
    before, own = reached[BEFORE], reached[name]
    low, *_, high = before["betas"]
    ends = [
        own["betas"][beta][figure] >= before["betas"][beta][figure]
        for beta, figure in ((low, "val accuracy"), (high, "val pgd"))
    ]
    differing = [
        statistics.fmean(each["disagreement"] for each in way["betas"].values())
        for way in (before, own)
    ]
    pairs = zip(own["by seed"], before["by seed"], strict=False)
    return (
        own["seeds"] == before["seeds"]
        and all(volume > old for volume, old in pairs)
        and all(ends)
        and differing[1] >= differing[0] / 2
    )


def table(reached: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a way and beta."""
    lines = []
    for name, each in reached.items():
        seeds = str(len(each["seeds"]))
        volumes = [percent(each["hypervolume"].get(key)) for key in ("val pgd", "test pgd")]
        for beta, row in each["betas"].items():
            keys = "val accuracy", "val pgd", "test accuracy", "test pgd", "test sra"
            shown = [percent(row.get(key), 1) for key in (*keys, "disagreement")]
            lines.append((name, seeds, *volumes, beta, *shown))
            name, seeds, volumes = "", "", ["", ""]
    notes = [
        "%, means of networks and seeds; pgd: PGD-50; hypervolume of accuracy and PGD-50, as a "
        "share of all that is better than guessing"
    ]
    heads = ("way", "seeds", "hypervolume", "on test images", "beta", "accuracy", "pgd")
    return Table((*heads, "test: accuracy", "test: pgd", "sra", "disagreement"), lines, notes)


def require(config: ConditioningConfig) -> list[str]:
    """The ways to train now; `InputError` for what cannot be compared."""
    require_start(config.train)
    low, high = config.train.objective.beta_range
    if config.train.objective.measures or low == high:
        raise InputError("--train.objective.beta must be a range, such as 0:1")
    ascending = sorted({*config.betas})
    if [*config.betas] != ascending or len(ascending) < 2:
        raise InputError("--betas must be two or more numbers, the lowest first")
    if not all(low <= beta <= high for beta in config.betas):
        raise InputError(f"--betas must lie in [{low:g}, {high:g}]")
    if config.samples < 2 or not config.seeds:
        raise InputError("--samples must be at least 2, and --seeds one or more")
    known = *WAYS, ALONE, DIRECT
    chosen(config.sra_of, known)
    return chosen(config.only, known)


def main(config: ConditioningConfig) -> None:
    """Trains and judges what is not there yet, prints the table and writes the figures."""
    names = require(config)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    found: dict[str, dict[str, Any]] = {}
    for seed in config.seeds:
        for name in [*WAYS, ALONE, DIRECT]:
            if name in names or is_there(config, name, seed):
                own = found.setdefault(name, {})
                own[f"{seed}"] = row(config, dataset, name, seed)
    reached = summary(found, dataset.num_classes)
    better = [name for name in WAYS if is_better(reached, name)]
    print(table(reached), f"better by the rule: {', '.join(better) or 'none'}", sep="\n\n")
    publish(config.out, settings, {"rows": found, "summary": reached, "better": better})


if __name__ == "__main__":
    run(main, ConditioningConfig, __doc__, QUICK)
