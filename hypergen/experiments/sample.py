"""Draws networks from a run, finds and verifies the best, and writes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hypergen import __version__
from hypergen.data import Dataset
from hypergen.data.memory import drawn_networks, require_memory
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.selection import (
    attack_schedule,
    halve_by_measures,
    rank,
    successive_halving,
)
from hypergen.evaluation.statistics import FIGURES, summarise
from hypergen.experiments.run_folder import require_empty
from hypergen.measures import Measure
from hypergen.measures.attacked import accuracies
from hypergen.models.latent import preference_weights
from hypergen.runtime.batching import gpu_memory
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import COUNT, SEED, SHARE, Settings
from hypergen.storage.lock import locked
from hypergen.storage.weights import save_network
from targets import Population, WeightLayout


@dataclass(frozen=True)
class SampleConfig(Settings):
    """Which networks are drawn, and how the best are verified."""

    count: Annotated[int, COUNT]
    """networks drawn"""
    keep: Annotated[int | None, COUNT] = None
    """how many of the best are written: found by successive halving on validation images, from
    cheap measurements of all to the ones that judge of a few, and verified on test images; by
    default all, unattacked, in the value network's order"""
    beta: Annotated[float | None, SHARE] = None
    """weight of robustness, for a run trained on a range; by default drawn from it"""
    prefer: str | None = None
    """weights of measures, such as accuracy=0.2,int8=0.8, for a run trained on ranges of them; by
    default drawn from these"""
    seed: Annotated[int, SEED] = 1
    """of the latent samples"""
    images: Annotated[int, COUNT] = 100
    """of validation to choose and of test to verify what `keep` keeps, by PGD-50, standard robust
    accuracy and the run's other measures"""

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

    Returns attack, dataset, measures, networks (a row each, with its file) and summary, as
    `evaluate` does; without `keep` the attack is None and rows have an accuracy and what V
    estimates.
    `InputError`: a folder that is not empty, or more networks than the memory holds.
    """
    require_empty(out)
    size = WeightLayout.of(sampler.models.target).size
    require_memory([drawn_networks(options.count, size, "count")], gpu_memory(dataset.device))
    phases = progress.split({"choosing": 1.0, "verifying": 1.0})
    with locked(out):
        require_empty(out)
        prefer = parse_prefer(options.prefer, [measure.name for measure in sampler.measures])
        population, z, preference = sampler.draw(options.count, options.beta, options.seed, prefer)
        estimates, uncertainty = sampler.estimate(population, dataset)
        # Less its uncertainty, so that what V does not know is not preferred.
        weights = preference_weights(preference, sampler.config.objective)
        order = rank(estimates - uncertainty, weights)
        if options.keep is not None:
            order = choose(
                sampler, population, order, weights, dataset, options, phases["choosing"]
            )
        order = order.cpu()  # where z is
        population = population.choose(order)
        rows, attack = verify(sampler, population, dataset, options, phases["verifying"])
        for index, row in zip(order, rows, strict=True):
            row |= {"z": z[index].tolist(), "seed": options.seed}
            row |= sampler.preference_row(preference[index])
            row["estimated"] = sampler.named(estimates[index])
            if sampler.config.value_network.members > 1:
                row["uncertainty"] = sampler.named(uncertainty[index])
        paths = save_samples(out, sampler, population, rows)
    shown = [{**row, "file": str(path)} for row, path in zip(rows, paths, strict=True)]
    names = [measure.name for measure in further_measures(sampler)] if attack else []
    found = {"attack": attack, "dataset": dataset.name, "measures": names, "networks": shown}
    return found | {"summary": summarise(shown, names)}


def parse_prefer(text: str | None, names: Sequence[str]) -> dict[str, float] | None:
    """Reads NAME=WEIGHT,...; names may themselves have "=" and "," in them. `InputError` else."""
    if text is None:
        return None
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found: dict[str, float] = {}
    rest = text
    while rest:
        match = re.match(rf"({known}|[^=,]+)=([^=,]+)(?:,|$)", rest)
        try:
            name, weight = match[1], float(match[2])  # pyright: ignore[reportOptionalSubscript]
        except (TypeError, ValueError):
            raise InputError(
                f"`prefer` must be weights of measures, such as accuracy=0.2,int8=0.8, got {text}"
            ) from None
        if name in found:
            raise InputError(f"`prefer` names {name} twice")
        assert match is not None
        found[name], rest = weight, rest[match.end() :]
    return found


def choose(
    sampler: Sampler,
    population: Population,
    order: Tensor,
    weights: Tensor,
    dataset: Dataset,
    options: SampleConfig,
    progress: Progress,
) -> Tensor:
    """Indices of the `keep` best by the weighted sum of the run's measures, on validation images.

    They are found by successive halving.
    """
    assert options.keep is not None
    threat, networks = sampler.config.threat, (population, order, weights)
    how = options.keep, options.images, options.seed, progress
    if sampler.config.objective.measures:
        return halve_by_measures(*networks, sampler.measures, dataset.val, threat, *how)
    return successive_halving(*networks, dataset.val, attack_schedule(threat), *how)


def verify(
    sampler: Sampler,
    population: Population,
    dataset: Dataset,
    options: SampleConfig,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A row of test figures a network and the attack they are by; without `keep` of accuracy.

    Beside what the evaluator judges these are the run's other measures, by their names.
    """
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
    for measure in further_measures(sampler):
        figures = evaluator.figures(measure, population, dataset)
        for row, figure in zip(rows, figures, strict=True):
            row[measure.name] = figure
    return [row | {"attack": attack} for row in rows], attack


def further_measures(sampler: Sampler) -> list[Measure]:
    """Measures of the run that `Evaluator.evaluate` has no figure of."""
    return [measure for measure in sampler.measures if measure.name not in FIGURES]


def save_samples(
    folder: Path, sampler: Sampler, population: Population, rows: list[dict[str, Any]]
) -> list[Path]:
    """Writes every network as sample-0000.safetensors ... with its row; the paths.

    rows: the figures of each network, with its z [Z] and its preference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, row in enumerate(rows):
        paths.append(folder / f"sample-{index:04d}.safetensors")
        z: Tensor = torch.tensor(row["z"], dtype=torch.float64)
        preference = {name: row[name] for name in ("beta", "preference") if name in row}
        metadata = sampler.metadata(population, z, preference) | {"version": __version__}
        save_network(paths[-1], population[index].state_dict(), row | metadata)
    return paths
