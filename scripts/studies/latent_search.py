"""Does the value network find better networks in the latent space than chance?

One generator, trained for a range of preferences, is searched in several ways: by each method that
`hypergen search` has, with few measurements, and by drawing at random, with as many and with twenty
times as many. Measured and chosen is on validation images; the front that each way has found is
then measured on test images by the same attack. Hypervolumes say how far fronts reach, and how many
of the means of ordinary samples, at several betas, lie below some network of a front in both
figures.

    HYPERGEN_DATA=... python -m scripts.studies.latent_search
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.trade_off import hypervolume, spread
from hypergen.experiments.latent_search import Candidates, Method, propose
from hypergen.experiments.search import given, kept_of, measure
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
    run,
)

TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.2, beta="0:1")
DRAWN = "drawn"
"""The way that measures what is drawn at random, without a look by V."""


@dataclass(frozen=True)
class LatentSearchConfig:
    """What is searched, and how much."""

    quick: bool = False
    """steps, candidates and images cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of the generator, which has a range of beta"""
    seeds: int = 3
    """searches by each method"""
    candidates: int = 550
    """latent samples that V looks at in each search"""
    budget: int = 16
    """networks measured in each"""
    times: int = 20
    """how many times as many are drawn at random beside that"""
    images: int = 100
    """validation and test images that are attacked; accuracy is over all"""
    betas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """at which ordinary samples stand beside what was found"""
    samples: int = 4
    """of these at each"""
    only: tuple[str, ...] = ()
    """methods to try; default: all, and `drawn`"""
    work: Path = Path("runs/latent-search")
    """folder of the generator and of the figures"""
    out: Path = RESULTS / "latent-search.json"
    """the figures as JSON"""


QUICK = LatentSearchConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", epsilon=None, steps=300),
    seeds=1,
    candidates=66,
    budget=4,
    times=3,
    images=20,
    samples=2,
)


def figures(row: Mapping[str, Any]) -> list[float]:
    """The measures of a row."""
    return [*row["measured"].values()]


def searched(
    config: LatentSearchConfig, sampler: Sampler, dataset: Dataset, method: Method | str, seed: int
) -> dict[str, Any]:
    """What a search found: how many networks it measured, and its front on both kinds of images."""
    classes = dataset.num_classes
    if method.startswith(DRAWN):
        count = config.budget * int(method.removeprefix(DRAWN))
        _, z, preference = sampler.draw(count, seed=seed + 100)
        candidates = Candidates(z, preference, torch.zeros(count, len(sampler.measures)))
        best: Sequence[int] = range(count)
    else:
        known: Any = method
        candidates = propose(sampler, dataset, config.candidates, known, seed)
        best = spread(candidates.estimates.tolist(), config.budget, classes)
    measured = measure(sampler, candidates, best, dataset.val, config.images, seed)
    kept = kept_of(measured, len(measured), classes)
    front = Candidates(*given(sampler, kept), torch.zeros(len(kept), len(sampler.measures)))
    on_test = measure(sampler, front, range(len(kept)), dataset.test, config.images, seed)
    points = {"val": [*map(figures, kept)], "test": [*map(figures, on_test)]}
    volumes = {split: hypervolume(own, classes) for split, own in points.items()}
    return {"measured": len(measured), "hypervolume": volumes, "front": points}


def ordinary(
    config: LatentSearchConfig, sampler: Sampler, dataset: Dataset, beta: float
) -> dict[str, Any]:
    """The means of ordinary samples of one beta on test images."""
    _, z, preference = sampler.draw(config.samples, beta, seed=1)
    drawn = Candidates(z, preference, torch.zeros(len(z), len(sampler.measures)))
    rows = measure(sampler, drawn, range(len(z)), dataset.test, config.images, seed=0)
    return {"mean": [statistics.fmean(each) for each in zip(*map(figures, rows), strict=True)]}


def dominated(means: Sequence[Sequence[float]], front: Sequence[Sequence[float]]) -> int:
    """How many means lie below some point of the front in each figure, or as high."""
    return sum(
        any(all(m <= p for m, p in zip(mean, point, strict=True)) for point in front)
        for mean in means
    )


def table(found: Mapping[str, Sequence[Mapping[str, Any]]], means: Sequence[Any]) -> Table:
    """A row a way of searching: means over its seeds."""
    rows = []
    for way, results in found.items():
        volumes = [
            statistics.fmean(each["hypervolume"][split] for each in results)
            for split in ("val", "test")
        ]
        beaten = statistics.fmean(dominated(means, each["front"]["test"]) for each in results)
        measured = str(results[0]["measured"])
        rows.append((way, measured, *(percent(v) for v in volumes), f"{beaten:.1f}"))
    notes = [
        "hypervolume of the front that was chosen on validation images, % of all that is better "
        "than guessing; means over searches",
        f"beaten: of the mean samples at {len(means)} betas on test images, how many lie below one "
        "network of the front in both figures",
    ]
    head = "measured", "hypervolume (val)", "hypervolume (test)", "beaten"
    return Table(("search", *head), rows, notes)


def main(config: LatentSearchConfig) -> None:
    """Trains and searches, prints the table and writes the figures."""
    known = dict.fromkeys((*get_args(Method), f"{DRAWN} 1", f"{DRAWN} {config.times}"))
    ways = chosen(config.only, known, lambda name: [cell(config.work, f"{name}-0")])
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    sampler = generator(config.work / "generator", config.train, dataset)
    means = [
        cached_json(
            cell(config.work, f"beta-{beta:g}"), partial(ordinary, config, sampler, dataset, beta)
        )["mean"]
        for beta in config.betas
    ]
    found = {}
    for way in ways:
        seeds = range(1 if way == f"{DRAWN} {config.times}" else config.seeds)
        found[way] = [
            cached_json(
                cell(config.work, f"{way}-{seed}"),
                partial(searched, config, sampler, dataset, way, seed),
            )
            for seed in seeds
        ]
    print(table(found, means))
    publish(config.out, settings, {"searches": found, "ordinary": means})


if __name__ == "__main__":
    run(main, LatentSearchConfig, __doc__, QUICK)
