"""Successive halving beside the standard attacks on every network: what it costs, what it finds.

Both choose by the same validation images, so the second is the truth that the first is to find.
Its best are found exactly by branch and bound: what the first of the attacks leave of a network
bounds what all of them would, so that only networks which may still be among the best meet them
all. What that costs for every network is extrapolated from the first. Networks of equal score share
the best of their ranks. Every figure is kept: a killed run of this script continues where it was.

    python -m scripts.compare.selection RUN
"""

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tyro.conf import Positional

import attacks
from hypergen.data import Dataset
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.selection import FINALISTS, attack_schedule, rank, successive_halving
from hypergen.experiments.run import load_generator
from hypergen.measures.attacked import accuracies, attack_population
from hypergen.models.latent import preference_weights
from hypergen.storage.checkpoint import CHECKPOINT
from scripts.common import (
    RESULTS,
    about,
    cached_json,
    ensure_same_settings,
    load,
    publish,
    run,
)
from targets import Population

DEPTHS = 1, 2, 4
"""How many of the standard attacks a network has met: their results bound one another."""
TIMED = 100
"""Networks that meet all attacks in any case; what they cost stands for the others."""


@dataclass(frozen=True)
class SelectionConfig:
    """What is drawn, and what it is judged by."""

    run: Positional[Path]
    """folder of a run"""
    count: int = 1000
    """networks drawn"""
    keep: int = 10
    """how many of the best are wanted"""
    images: int = 100
    """validation images attacked"""
    seed: int = 1
    """of the latent samples and the attacks"""
    work: Path = Path("runs/compare-selection")
    """folder of what was found of each network"""
    out: Path = RESULTS / "halving.json"
    """the figures as JSON"""


@dataclass(frozen=True)
class Drawn:
    """Networks of a generator, their preferences [P], and the images that they are chosen on."""

    config: SelectionConfig
    sampler: Sampler
    dataset: Dataset
    population: Population
    betas: Tensor

    @property
    def weights(self) -> Tensor:
        """[P,2], of accuracy and robustness."""
        return preference_weights(self.betas, self.sampler.config)

    def halved(self) -> dict[str, Any]:
        """Which networks successive halving keeps, and the value network's order of all."""
        config, start = self.config, time.process_time()
        estimates, uncertainty = self.sampler.estimate(self.population, self.dataset)
        weights = self.weights
        order = rank(estimates - uncertainty, weights)
        found = successive_halving(
            self.population,
            order,
            weights,
            self.dataset.val,
            attack_schedule(self.sampler.config.threat),
            config.keep,
            config.images,
            config.seed,
        )
        return {
            "found": found.tolist(),
            "by_value_network": order.tolist(),
            "seconds": time.process_time() - start,
        }

    def judged(self, index: int, depth: int) -> dict[str, float]:
        """What the first `depth` of the standard attacks leave of one network."""
        start, network = time.process_time(), self.population[index : index + 1]
        validation, seed = self.dataset.val, self.config.seed
        accuracy = accuracies(network, *validation.first(len(validation)))
        some = attacks.standard(self.sampler.config.threat).attacks[:depth]
        images, labels = validation.first(self.config.images)
        masks = attack_population(network, images, labels, attacks.Suite(*some), seed)
        return {
            "accuracy": float(accuracy),
            "robustness": float(masks.robust_accuracy),
            "seconds": time.process_time() - start,
        }

    def figures(self, index: int, depth: int) -> dict[str, float]:
        """The same, kept."""
        path = self.config.work / f"network-{index:04d}-{depth}.json"
        return cached_json(path, lambda: self.judged(index, depth))

    def score(self, index: int, depth: int) -> float:
        """(1 - beta) * accuracy + beta * robustness of one network; too high but at the last."""
        row = self.figures(index, depth)
        measured = torch.tensor([row["accuracy"], row["robustness"]])
        return float(self.weights[index].cpu() @ measured)


@torch.no_grad()
def main(config: SelectionConfig) -> None:
    """Finds the best both ways, prints what each took and writes it."""
    sampler = load_generator(config.run)
    with (config.run / CHECKPOINT).open("rb") as file:  # of another training all is made anew
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    settings = ensure_same_settings(config.work, config, generator=digest)
    dataset = load(sampler.config.data, torch.device("cpu"))
    sampler = load_generator(config.run, dataset)
    population, _, betas = sampler.draw(config.count, seed=config.seed)
    drawn = Drawn(config, sampler, dataset, population, betas)
    short = cached_json(config.work / "halving.json", drawn.halved)
    timed = [drawn.figures(index, DEPTHS[-1]) for index in range(min(TIMED, config.count))]
    best_of_all = branch_and_bound(config.count, FINALISTS * config.keep, drawn.score)
    places = [best_of_all.get(index) for index in short["found"]]
    alone = [best_of_all.get(index) for index in short["by_value_network"][: config.keep]]
    seconds = statistics.fmean(row["seconds"] for row in timed) * config.count
    print(f"the {config.keep} found are, of all {config.count}, at ranks {places}")
    ratio = seconds / short["seconds"]
    print(f"{short['seconds']:.0f} s against {seconds:.0f} s, {ratio:.0f} times as long")
    found = {
        "places": places,
        "among_best_twice_as_many": sum(place is not None for place in places),
        "value_network_alone": alone,
        "seconds": {"halving": short["seconds"], "all": seconds},
        "sra": {
            "best": [drawn.figures(index, DEPTHS[-1])["robustness"] for index in best_of_all],
            "mean": statistics.fmean(row["robustness"] for row in timed),
        },
    }
    publish(config.out, settings | {"run": about(sampler.config)}, found)


def branch_and_bound(count: int, best: int, bound: Callable[[int, int], float]) -> dict[int, int]:
    """The `best` of networks 0 ... count - 1, and their equals: network -> its rank from 1 on.

    bound: of a network and a depth, never rising with the depth, exact at the last.
    """
    depths = dict.fromkeys(range(count), 0)
    bounds = {index: bound(index, DEPTHS[0]) for index in depths}
    while True:
        least = sorted(bounds.values(), reverse=True)[min(best, count) - 1]
        first = [index for index in bounds if bounds[index] >= least]
        unsure = [index for index in first if depths[index] < len(DEPTHS) - 1]
        if not unsure:
            break
        for index in unsure:
            depths[index] += 1
            bounds[index] = bound(index, DEPTHS[depths[index]])
    places = {index: 1 + sum(b > bounds[index] for b in bounds.values()) for index in first}
    return dict(sorted(places.items(), key=lambda item: item[1]))


if __name__ == "__main__":
    run(main, SelectionConfig, __doc__)
