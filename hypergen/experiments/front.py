"""Judges what a sweep has chosen once more: on test images, by which nothing was chosen."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from attacks import AttackError
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.experiments.compare import judge_of
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.measures.attacked import accuracies
from hypergen.runtime.device import choose_device
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.network_files import find, open_networks
from targets import Population


def judge_front(
    study: optuna.Study,
    runs: Mapping[int, Path],
    dataset: Dataset,
    sizes: ReportConfig,
    device: str,
    progress: Progress = SILENT,
) -> dict[str, str]:
    """Judges runs that are not judged yet; returns run -> why it cannot be.

    What is found stands in the study at once (see `on_test`), for the attributes of a finished
    trial cannot be added to.

    runs: by the numbers of their trials; sizes: of the trials' reports.
    """
    todo = {number: run for number, run in runs.items() if on_test(study, number) is None}
    failed = {}
    progress.start(len(todo))
    images = dataset.to(choose_device(device)) if todo else dataset
    for number, run in todo.items():
        try:
            study.set_user_attr(_attribute(number), judge_samples(run, images, sizes))
        except (InputError, AttackError) as error:
            failed[str(run)] = str(error)
        progress.advance()
    return failed


def on_test(study: optuna.Study, number: int) -> dict[str, float] | None:
    """Accuracy and robustness of a trial on test images; None where it was not judged there."""
    match study.user_attrs.get(_attribute(number)):
        case {"accuracy": float(accuracy), "robustness": float(robustness)}:
            return {"accuracy": accuracy, "robustness": robustness}
    return None


def _attribute(number: int) -> str:
    return f"test-{number:04d}"


def points(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a picture of a sweep shows of its rows: points, whose `kind` names their images."""
    shown = [{**row, "kind": f"{row['kind']}, validation images"} for row in rows]
    return shown + [{"kind": "front, test images", **row["test"]} for row in rows if row["test"]]


def judge_samples(run: Path, dataset: Dataset, sizes: ReportConfig) -> dict[str, float]:
    """Accuracy and robustness of a run's stored samples on test images, means in [0,1].

    As a report of these sizes on test images has them: robustness is standard robust accuracy, or
    PGD where `sizes` wants none of that.
    `InputError` or `AttackError`: samples that are not there any more, or that give no numbers.
    """
    config = RunSettings.load(run).config
    networks = [network.module.to(dataset.device) for network in open_networks(find([run]))]
    if len(networks) != sizes.samples:
        raise InputError(f"{run} holds {len(networks)} samples, not {sizes.samples}")
    population = Population.of(networks)
    judge = judge_of(config, replace(sizes, split="test"))
    few = population
    if sizes.sra_samples:
        few = population[: sizes.sra_samples]
        judge = replace(judge, attack_name="standard", images=sizes.sra_images)
    rows = judge.evaluate(few, dataset)
    accuracy = accuracies(population, *dataset.test.first(len(dataset.test))).tolist()
    return {
        "accuracy": statistics.fmean(accuracy),
        "robustness": statistics.fmean(row["robustness"] for row in rows),
    }
