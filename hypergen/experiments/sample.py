"""Draws networks from a run, finds and verifies the best, and writes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hypergen import __version__
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.selection import attack_schedule, rank, successive_halving
from hypergen.evaluation.statistics import summarise
from hypergen.experiments.run_folder import require_empty
from hypergen.measures import named
from hypergen.measures.attacked import accuracies
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import SEED, SHARE, Range, Settings
from hypergen.storage.lock import locked
from hypergen.storage.weights import save_network
from targets import Population


@dataclass(frozen=True)
class SampleConfig(Settings):
    """Which networks are drawn, and how the best are verified."""

    count: Annotated[int, Range(1)]
    """networks drawn"""
    keep: Annotated[int | None, Range(1)] = None
    """how many of the best are written: found by successive halving on validation images, from
    cheap attacks on all to the standard ones on a few, and verified on test images; by default all,
    unattacked, in the value network's order"""
    beta: Annotated[float | None, SHARE] = None
    """weight of robustness, for a run trained on a range; by default drawn from it"""
    seed: Annotated[int, SEED] = 1
    """of the latent samples"""
    images: Annotated[int, Range(1)] = 100
    """of validation to choose and of test to verify what `keep` keeps, by PGD-50 and standard
    robust accuracy"""

    def require(self) -> None:
        if self.keep is not None and self.keep > self.count:
            raise InputError(f"`keep` must be at most `count` ({self.count}), got {self.keep}")


def draw_samples(
    sampler: Sampler,
    dataset: Dataset,
    out: Path,
    options: SampleConfig,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Draws, ranks, verifies what is to be kept, and writes it to `out`, best first.

    Returns attack, dataset, networks (a row each, with its file) and summary, as `evaluate` does;
    without `keep` the attack is None and rows have an accuracy and what V estimates.
    `InputError`: a folder that is not empty.
    """
    require_empty(out)
    phases = progress.split({"choosing": 1.0, "verifying": 1.0})
    with locked(out):
        require_empty(out)
        population, z, betas = sampler.draw(options.count, options.beta, options.seed)
        estimates, uncertainty = sampler.estimate(population, dataset)
        # Less its uncertainty, so that what V does not know is not preferred.
        order = rank(estimates - uncertainty, betas)
        if options.keep is not None:
            order = successive_halving(
                population,
                order,
                betas,
                dataset.val,
                attack_schedule(sampler.config.threat),
                options.keep,
                options.images,
                options.seed,
                phases["choosing"],
            )
        order = order.cpu()  # where z is
        population = population.choose(order)
        rows, attack = verify(sampler, population, dataset, options, phases["verifying"])
        for index, row in zip(order, rows, strict=True):
            row |= {"z": z[index].tolist(), "beta": float(betas[index]), "seed": options.seed}
            row["estimated"] = named(estimates[index].tolist())
            if sampler.config.value_network.members > 1:
                row["uncertainty"] = named(uncertainty[index].tolist())
        paths = save_samples(out, sampler, population, rows)
    shown = [{**row, "file": str(path)} for row, path in zip(rows, paths, strict=True)]
    found = {"attack": attack, "dataset": dataset.name, "networks": shown}
    return found | {"summary": summarise(shown)}


def verify(
    sampler: Sampler,
    population: Population,
    dataset: Dataset,
    options: SampleConfig,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A row of test figures a network and the attack they are by; without `keep` of accuracy."""
    if options.keep is None:
        shares = accuracies(population, *dataset.test.first(len(dataset.test))).tolist()
        return [{"accuracy": share} for share in shares], None
    evaluator = Evaluator(
        sampler.config.threat,
        "standard",
        restarts=1,
        images=options.images,
        seed=options.seed,
    )
    attack = evaluator.describe(dataset)
    rows = evaluator.evaluate(population, dataset, progress)
    return [row | {"attack": attack} for row in rows], attack


def save_samples(
    folder: Path, sampler: Sampler, population: Population, rows: list[dict[str, Any]]
) -> list[Path]:
    """Writes every network as sample-0000.safetensors ... with its row; the paths.

    rows: the figures of each network, with its z [Z] and beta.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, row in enumerate(rows):
        paths.append(folder / f"sample-{index:04d}.safetensors")
        z: Tensor = torch.tensor(row["z"], dtype=torch.float64)
        metadata = sampler.metadata(population, z, row["beta"]) | {"version": __version__}
        save_network(paths[-1], population[index].state_dict(), row | metadata)
    return paths
