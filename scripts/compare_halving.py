"""Successive halving beside the standard attacks on every network: what it costs, what it finds.

Both choose by the same validation images, so the second is the truth that the first is to find.
Networks of equal worth share the best of their places. The truth is kept network by network: a
killed run of this script continues where it was.

    python -m scripts.compare_halving RUN
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from tyro.conf import Positional

import attacks
from hypergen import data
from hypergen.halving import best, rank
from hypergen.latent import preference_weights
from hypergen.measure import survivors
from hypergen.sample import load_generator
from scripts.cells import RESULTS, claim, kept, publish


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
    settings = claim(config.work, config)
    sampler = load_generator(config.run)
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

    def judged(index: int) -> dict[str, float]:
        start, network = time.process_time(), population[index : index + 1]
        whole = dataset.val.first(len(dataset.val))
        accuracy = survivors(network, *whole, None, config.seed)["clean"]
        images, labels = dataset.val.first(config.images)
        table = survivors(network, images, labels, attacks.standard(threat), config.seed)
        return {
            "accuracy": float(accuracy.float().mean()),
            "sra": float(list(table.values())[-1].float().mean()),
            "seconds": time.process_time() - start,
        }

    short = kept(config.work / "halving.json", halved)
    truth = [
        kept(config.work / f"network-{index:04d}.json", lambda i=index: judged(i))
        for index in range(config.count)
    ]
    figures = torch.tensor([[row["accuracy"], row["sra"]] for row in truth])
    worth = (preference_weights(betas.cpu()) * figures).sum(-1)

    def places_of(indices: list[int]) -> list[int]:
        return sorted(1 + int((worth > worth[index]).sum()) for index in indices)

    places = places_of(short["found"])
    seconds = sum(row["seconds"] for row in truth)
    print(f"the {config.keep} found are, of all {config.count}, places {places}")
    print(f"{short['seconds']:.0f} s against {seconds:.0f} s: 1/{seconds / short['seconds']:.0f}")
    found = {
        "places": places,
        "among_best_twice_as_many": sum(place <= 2 * config.keep for place in places),
        "value_network_alone": places_of(short["by_value_network"][: config.keep]),
        "seconds": {"halving": short["seconds"], "all": seconds},
        "sra": {
            "best": max(row["sra"] for row in truth),
            "mean": float(figures[:, 1].mean()),
            "found": [truth[index]["sra"] for index in short["found"]],
        },
    }
    publish(config.out, settings, found, whole=True)


if __name__ == "__main__":
    main(tyro.cli(HalvingConfig))
