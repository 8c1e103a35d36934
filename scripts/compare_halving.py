"""Successive halving beside the standard attacks on every network: what it costs, what it finds.

Both choose by the same validation images, so the second is the truth that the first is to find.
Its best are found exactly by branch and bound: what the first of the attacks leave of a network
bounds what all of them would, so that only networks which may still be among the best meet them
all. What that costs for every network is extrapolated from the first. Networks of equal worth share
the best of their places. Every figure is kept: a killed run of this script continues where it was.

    python -m scripts.compare_halving RUN
"""

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tyro.conf import Positional

import attacks
from hypergen import data
from hypergen.checkpoint import CHECKPOINT
from hypergen.halving import FINALISTS, best, rank
from hypergen.latent import preference_weights
from hypergen.measure import survivors
from hypergen.sample import load_generator
from scripts.cells import RESULTS, about, claim, kept, publish, run

DEPTHS = 1, 2, 4
"""How many of the standard attacks a network has met: their results bound one another."""
TIMED = 100
"""Networks that meet all attacks in any case; what they cost stands for the others."""


@dataclass(frozen=True)
class HalvingConfig:
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
    work: Path = Path("runs/compare-halving")
    """folder of what was found of each network"""
    out: Path = RESULTS / "halving.json"
    """the figures as JSON"""


@torch.no_grad()
def main(config: HalvingConfig) -> None:
    """Finds the best both ways, prints what each took and writes it."""
    sampler = load_generator(config.run)
    with (config.run / CHECKPOINT).open("rb") as file:  # of another training all is made anew
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    settings = claim(config.work, config, generator=digest)
    dataset = data.load(sampler.config.dataset)
    sampler = load_generator(config.run, dataset)
    threat = sampler.config.threat
    population, _, betas = sampler.draw(config.count, seed=config.seed)

    def halved() -> dict[str, Any]:
        start = time.process_time()
        estimates, uncertainty = sampler.estimate(population, dataset)
        order = rank(estimates - uncertainty, betas)
        verifying = threat, config.keep, config.images, config.seed
        found = best(population, order, betas, dataset.val, *verifying)
        return {
            "found": found.tolist(),
            "by_value_network": order.tolist(),
            "seconds": time.process_time() - start,
        }

    def judged(index: int, depth: int) -> dict[str, float]:
        start, network = time.process_time(), population[index : index + 1]
        whole = dataset.val.first(len(dataset.val))
        accuracy = survivors(network, *whole, None, config.seed)["clean"]
        images, labels = dataset.val.first(config.images)
        first = attacks.Suite(*attacks.standard(threat).attacks[:depth])
        table = survivors(network, images, labels, first, config.seed)
        return {
            "accuracy": float(accuracy.float().mean()),
            "robustness": float(list(table.values())[-1].float().mean()),
            "seconds": time.process_time() - start,
        }

    def figures(index: int, depth: int) -> dict[str, float]:
        path = config.work / f"network-{index:04d}-{depth}.json"
        return kept(path, lambda: judged(index, depth))

    def worth(index: int, depth: int) -> float:
        row = figures(index, depth)
        measured = torch.tensor([row["accuracy"], row["robustness"]])
        return float(preference_weights(betas[index : index + 1].cpu()) @ measured)

    short = kept(config.work / "halving.json", halved)
    timed = [figures(index, DEPTHS[-1]) for index in range(min(TIMED, config.count))]
    best_of_all = branch_and_bound(config.count, FINALISTS * config.keep, worth)
    places = [best_of_all.get(index) for index in short["found"]]
    alone = [best_of_all.get(index) for index in short["by_value_network"][: config.keep]]
    seconds = statistics.fmean(row["seconds"] for row in timed) * config.count
    print(f"the {config.keep} found are, of all {config.count}, places {places}")
    print(f"{short['seconds']:.0f} s against {seconds:.0f} s: 1/{seconds / short['seconds']:.0f}")
    found = {
        "places": places,
        "among_best_twice_as_many": sum(place is not None for place in places),
        "value_network_alone": alone,
        "seconds": {"halving": short["seconds"], "all": seconds},
        "sra": {
            "best": [figures(index, DEPTHS[-1])["robustness"] for index in best_of_all],
            "mean": statistics.fmean(row["robustness"] for row in timed),
        },
    }
    publish(config.out, settings | {"run": about(sampler.config)}, found)


def branch_and_bound(count: int, best: int, bound: Callable[[int, int], float]) -> dict[int, int]:
    """The `best` of networks 0 ... count - 1, and their equals: network -> its place from 1 on.

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
    run(main, HalvingConfig, __doc__)
