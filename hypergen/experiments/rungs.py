"""What a trial's run has reached at rungs: cheap figures on validation images, while it trains."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attacks
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.measures import Stage, measured, prepare_batch
from hypergen.measures.attacked import accuracies
from hypergen.report.intervals import interval
from hypergen.runtime.precision import full_precision
from hypergen.storage.atomic import read_json, write_json

RUNGS = 0.25, 0.5
"""Shares of a run's steps after which it is measured; warm-ups, if not changed, are over then."""
FILE = "rungs.json"
NETWORKS, IMAGES, STEPS = 4, 256, 10
"""Networks, validation images that are attacked or otherwise changed, and steps of PGD."""
Reached = tuple[list[float], list[float]]
"""Of each measure the mean of a few samples, and the upper end of its 95 % interval."""


@full_precision()
def figures(sampler: Sampler, dataset: Dataset) -> dict[str, list[float]]:
    """Name of each measure -> mean of a few samples, and the upper end of its 95 % interval.

    Accuracy is on all validation images, the rest on the first ones, with the budget of training;
    what attacks is PGD. These figures rank trials of one sweep, and are none to quote. No random
    number of a training is used. Errors as from `measures.measured`.
    """
    seed = sampler.config.optimisation.seed
    population = sampler.sample(NETWORKS, seed=seed)
    images, labels = dataset.val.first(IMAGES)
    stage = Stage(lambda threat: attacks.PGD(threat, STEPS), seed)
    batch = prepare_batch(sampler.measures, population, images, labels, stage)
    values = measured(sampler.measures, population, batch)
    values[:, 0] = accuracies(population, *dataset.val.first(len(dataset.val)))
    found = {}
    for place, measure in enumerate(sampler.measures):
        mean = statistics.fmean(values[:, place].tolist())
        count = len(dataset.val) if place == 0 else len(images)
        found[measure.name] = [mean, interval(mean, count)[1]]
    return found


def measure_rung(folder: Path, rung: float, sampler: Sampler, dataset: Dataset) -> None:
    """Adds the figures at a rung to the file in a run's folder, unless they are there.

    So a run that goes on from a checkpoint before the rung tells nothing else than it has told.
    """
    path = folder / FILE
    found = read_json(path) if path.exists() else {}
    if str(rung) not in found:
        write_json(path, found | {str(rung): figures(sampler, dataset)})


def read_rungs(folder: Path, measures: Sequence[str]) -> dict[float, Reached]:
    """What a run has reached by now, by rung. `InputError`: a damaged file, or other measures."""
    path = folder / FILE
    tree = read_json(path) if path.exists() else {}
    try:
        pairs = {float(rung): [own[name] for name in measures] for rung, own in tree.items()}
        found = {rung: ([a for a, _ in own], [b for _, b in own]) for rung, own in pairs.items()}
        if not all(is_reached(own, len(measures)) for own in found.values()):
            raise ValueError
    except (LookupError, TypeError, ValueError):
        raise InputError(f"{path} is damaged; remove it to go on without it") from None
    return found


def is_reached(own: Sequence[Sequence[Any]], measures: int) -> bool:
    """Whether these are means and upper ends of so many measures, all in [0,1]."""
    numbers = [each for part in own for each in part]
    shares = all(isinstance(each, float) and 0 <= each <= 1 for each in numbers)
    return shares and [len(part) for part in own] == [measures, measures]
