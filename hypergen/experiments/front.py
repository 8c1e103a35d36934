"""Judges what a sweep has chosen once more: on test images, by which nothing was chosen."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import optuna

from attacks import AttackError
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments.compare import JUDGED, judge_of
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.measures import build_measures
from hypergen.measures.attacked import accuracies
from hypergen.runtime.device import choose_device
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.network_files import find, open_networks
from targets import Population


def judge_front(
    study: optuna.Study,
    runs: Mapping[int, Path],
    measures: Sequence[str],
    dataset: Dataset,
    sizes: ReportConfig,
    device: str,
    progress: Progress = SILENT,
) -> dict[str, str]:
    """Judges runs that are not judged yet; returns run -> why it cannot be.

    What is found stands in the study at once (see `on_test`), for the attributes of a finished
    trial cannot be added to.

    runs: by the numbers of their trials; measures: their names; sizes: of the trials' reports.
    """
    todo = {number: run for number, run in runs.items() if on_test(study, number, measures) is None}
    failed = {}
    progress.start(len(todo))
    images = dataset.to(choose_device(device)) if todo else dataset
    for number, run in todo.items():
        try:
            study.set_user_attr(_attribute(number), judge_samples(run, images, sizes))
        except (InputError, RunError, AttackError) as error:
            failed[str(run)] = str(error)
        progress.advance()
    return failed


def on_test(study: optuna.Study, number: int, measures: Sequence[str]) -> dict[str, float] | None:
    """The measures of a trial on test images, by name; None where it was not judged there."""
    match study.user_attrs.get(_attribute(number)):
        case dict(found) if all(isinstance(found.get(name), float) for name in measures):
            return {name: found[name] for name in measures}
    return None


def _attribute(number: int) -> str:
    return f"test-{number:04d}"


def judge_samples(run: Path, dataset: Dataset, sizes: ReportConfig) -> dict[str, float]:
    """The measures of a run's stored samples on test images, means in [0,1] by name.

    As a report of these sizes on test images has them, with the budget that figures are judged by;
    "robustness" is standard robust accuracy, or PGD where `sizes` wants none of that.
    `InputError`, `RunError` or `AttackError`: samples that are not there any more, or that give no
    numbers.
    """
    config = RunSettings.load(run).config
    networks = [network.module.to(dataset.device) for network in open_networks(find([run]))]
    if len(networks) != sizes.samples:
        raise InputError(f"{run} holds {len(networks)} samples, not {sizes.samples}")
    population = Population.of(networks)
    measures = build_measures(config)
    judge = judge_of(config, replace(sizes, split="test"))
    found = {
        "accuracy": accuracies(population, *dataset.test.first(len(dataset.test))).tolist(),
        **{
            measure.name: judge.figures(measure, population, dataset)
            for measure in measures
            if measure.name not in JUDGED
        },
    }
    if "robustness" in [measure.name for measure in measures]:
        found["robustness"] = _robustness(judge, population, dataset, sizes)
    return {name: statistics.fmean(values) for name, values in found.items()}


def _robustness(
    judge: Evaluator, population: Population, dataset: Dataset, sizes: ReportConfig
) -> list[float]:
    few = population
    if sizes.sra_samples:
        few = population[: sizes.sra_samples]
        judge = replace(judge, attack_name="standard", images=sizes.sra_images)
    return [row["robustness"] for row in judge.evaluate(few, dataset)]
