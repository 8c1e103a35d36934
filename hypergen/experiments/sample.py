"""Draws networks from a run, finds and verifies the best, and writes them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hypergen import __version__
from hypergen.data import Dataset
from hypergen.data.memory import drawn_networks, require_memory
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.selection import (
    attack_schedule,
    halve_by_measures,
    rank,
    successive_halving,
)
from hypergen.evaluation.statistics import FIGURES, summarise
from hypergen.evaluation.trade_off import curve, hypervolume
from hypergen.experiments.run_folder import require_empty
from hypergen.experiments.sample_config import SampleConfig
from hypergen.knob import KNOBS, knob_of
from hypergen.measures import Measure
from hypergen.measures.attacked import accuracies
from hypergen.models.latent import preference_weights
from hypergen.report.plots import curve_picture, write_pictures
from hypergen.runtime.fitting import usable_memory
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.atomic import write_json
from hypergen.storage.lock import locked
from hypergen.storage.weights import save_network
from targets import Population, WeightLayout

CURVE = "curve.json"
"""The file beside the networks of several betas, or radii, that has all figures."""


@dataclass(frozen=True)
class Drawn:
    """Networks, best first, and what stands of each in its row: z, preference, estimates."""

    population: Population
    rows: list[dict[str, Any]]


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
    estimates. With several betas or radii also `curve`, of the networks of each (see
    `trade_off.curve`), and of verified ones `hypervolume`, of the means of each in accuracy and
    SRA; all of it stands in curve.json then, and is drawn beside it.
    `InputError`: a folder that is not empty, or more networks than the memory holds.
    """
    require_empty(out)
    size = WeightLayout.of(sampler.models.target).size
    whole = options.count * max(1, len(options.values))
    require_memory([drawn_networks(whole, size, "count")], usable_memory(dataset.device))
    phases = progress.split({"choosing": 1.0, "verifying": 1.0})
    with locked(out):
        require_empty(out)
        asked = options.chosen(sampler, dataset)
        steps = [phases["choosing"]]
        if len(asked) > 1:
            kind, count = knob_of(asked[0]), len(asked)
            names = [f"{kind} {place} of {count}" for place in range(1, count + 1)]
            steps = [*steps[0].split(dict.fromkeys(names, 1.0)).values()]
        groups = [
            draw_best(sampler, dataset, each, options, step)
            for each, step in zip(asked, steps, strict=True)
        ]
        population = groups[0].population
        if len(groups) > 1:
            population = Population.of(net for group in groups for net in group.population)
        if options.keep is None:
            rows, attack = unattacked(population, dataset), None
        else:
            judging = sampler, population, dataset, options.images, options.seed
            rows, attack = verify(*judging, phases["verifying"])
        for row, known in zip(rows, (row for group in groups for row in group.rows), strict=True):
            row |= known
        drawn = {"sampling": asdict(options)}  # so that a file tells how it is made again
        paths = save_samples(out, sampler, population, [row | drawn for row in rows])
    shown = [{**row, "file": str(path)} for row, path in zip(rows, paths, strict=True)]
    names = [measure.name for measure in further_measures(sampler)] if attack else []
    found = {"attack": attack, "dataset": dataset.title, "measures": names, "networks": shown}
    found["targets"] = [sampler.config.target]
    found["summary"] = summarise(shown, names)
    if len(asked) > 1:
        found["curve"] = curve(shown, ("accuracy", "pgd", "sra") if attack else ("accuracy",))
        if attack:
            points = [[row["accuracy"]["mean"], row["sra"]["mean"]] for row in found["curve"]]
            found["hypervolume"] = hypervolume(points, dataset.num_classes)
        write_json(out / CURVE, found)
        write_pictures(out / CURVE, curve_picture(found))
    return found


def draw_best(
    sampler: Sampler,
    dataset: Dataset,
    asked: Mapping[str, Any],
    options: SampleConfig,
    progress: Progress = SILENT,
) -> Drawn:
    """The best `keep` of the networks drawn, or all of them in the value network's order.

    asked: for which preference, as `Sampler.draw` takes it.
    """
    population, z, preference = sampler.draw(options.count, seed=options.seed, **asked)
    estimates, uncertainty = sampler.estimate(population, dataset)
    # Less its uncertainty, so that what V does not know is not preferred.
    weights = preference_weights(preference, sampler.config)
    order = rank(estimates - uncertainty, weights)
    if options.keep is not None:
        order = choose(sampler, population, order, weights, dataset, options, progress)
    rows = []
    for index in order.cpu():  # where z is
        row = {"z": z[index].tolist(), "seed": options.seed}
        row |= sampler.preference_row(preference[index])
        row["estimated"] = sampler.named(estimates[index])
        if sampler.config.value_network.members > 1:
            row["uncertainty"] = sampler.named(uncertainty[index])
        rows.append(row)
    return Drawn(population.choose(order.cpu()), rows)


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
    images: int,
    seed: int,
    progress: Progress,
    split: Literal["test", "val"] = "test",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row of figures a network, and the attack they are by.

    Beside what the evaluator judges these are the run's other measures, by their names.
    """
    evaluator = verifier(sampler, images, seed, split)
    attack = evaluator.describe(dataset)
    rows = evaluator.evaluate(population, dataset, progress)
    figures = further_figures(sampler, evaluator, population, dataset)
    rows = [row | own for row, own in zip(rows, figures, strict=True)]
    return [row | {"attack": attack} for row in rows], attack


def verifier(
    sampler: Sampler, images: int, seed: int, split: Literal["test", "val"] = "test"
) -> Evaluator:
    """What judges a run's networks one by one: the standard attacks on the first `images`."""
    threat = sampler.config.threat
    return Evaluator(threat, "standard", restarts=1, images=images, seed=seed, split=split)


def further_figures(
    sampler: Sampler, evaluator: Evaluator, population: Population, dataset: Dataset
) -> list[dict[str, float]]:
    """What `further_measures` say of each network, by their names."""
    rows: list[dict[str, float]] = [{} for _ in range(len(population))]
    for measure in further_measures(sampler):
        figures = evaluator.figures(measure, population, dataset)
        for row, figure in zip(rows, figures, strict=True):
            row[measure.name] = figure
    return rows


def unattacked(population: Population, dataset: Dataset) -> list[dict[str, Any]]:
    """A row a network: its accuracy on test images, and nothing else."""
    shares = accuracies(population, *dataset.test.first(len(dataset.test))).tolist()
    return [{"accuracy": share} for share in shares]


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
    paths = [folder / f"sample-{index:04d}.safetensors" for index in range(len(rows))]
    for index, (path, row) in enumerate(zip(paths, rows, strict=True)):
        save_sample(path, sampler, population, index, row)
    return paths


def save_sample(
    path: Path, sampler: Sampler, population: Population, index: int, row: dict[str, Any]
) -> None:
    """Writes one of the networks with its row: figures, its z [Z] and its preference."""
    z: Tensor = torch.tensor(row["z"], dtype=torch.float64)
    preference = {name: row[name] for name in (*KNOBS, "preference") if name in row}
    metadata = sampler.metadata(population, z, preference) | {"version": __version__}
    save_network(path, population[index].state_dict(), row | metadata)
