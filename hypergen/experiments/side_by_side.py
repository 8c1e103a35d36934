"""Groups of networks side by side: runs, folders of samples, baselines, judged by the same images.

Every group is judged anew, so that all meet the same attacks on the same test images; differences
are then paired, image by image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hypergen import __version__
from hypergen.errors import InputError
from hypergen.evaluation.diversity import pairwise_differences
from hypergen.evaluation.evaluator import Evaluator, by_architecture
from hypergen.evaluation.statistics import paired_error, summarise
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.evaluate import DISAGREEMENT_IMAGES, Judged, open_for, targets_of
from hypergen.experiments.evaluate_config import AttackConfig
from hypergen.experiments.run_folder import RESULTS, RunSettings
from hypergen.experiments.sweep_report import SETTINGS as SWEEP
from hypergen.knob import KNOBS
from hypergen.report.verdict import difference
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import COUNT
from hypergen.storage.atomic import read_json
from hypergen.storage.folders import CONFIG, expanded
from hypergen.storage.network_files import NetworkFile, find
from hypergen.storage.results_cache import ResultsCache
from targets import Population

OF_ONE = {"z", *KNOBS, "preference", "seed", "version"}
"""What a weight file says of its network alone."""


@dataclass(frozen=True)
class CompareConfig(AttackConfig):
    """On which images groups are compared, and by which attack."""

    attack: str = "standard"
    """any attack by its name: standard for standard robust accuracy, pgd for a quick look"""
    restarts: Annotated[int, COUNT] = 1
    """of PGD"""
    images: Annotated[int, COUNT] = 200
    """test images attacked; accuracy is over all"""


def compare(
    paths: Sequence[Path],
    options: CompareConfig,
    device: torch.device,
    data_dir: Path | None = None,
    cache: ResultsCache | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Judges the networks of each path as a group, and sets all groups beside the first.

    Returns attack, dataset, targets, all_images (how many test images there are), groups (each with
    its path, networks, summary, disagreement and, of figures `accuracy` and `robustness`, the
    differences to the first group: mean, low and high of a 95 % interval), hypervolumes (of each
    group's networks), and `settings`: those of runs, or of what made weight files, in which groups
    differ, a list of values by name.

    paths: as `evaluate` takes them; a sweep stands for the runs on its front.
    `InputError`: fewer than two groups, one twice, or networks of several architectures in a group.
    """
    paths = [run for path in paths for run in runs_of(path)]
    if len(paths) < 2:
        raise InputError("a comparison needs two paths at least: runs, folders or weight files")
    twice = [path for path in paths if [*paths].count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice")
    sizes = [len(find([path])) for path in paths]
    judged = open_for(paths, options, device, data_dir)
    groups, start = [], 0
    for path, size in zip(paths, sizes, strict=True):
        groups.append((path, judged.networks[start : start + size]))
        start += size
    evaluator = options.evaluator(judged.threat, cache)
    phases = progress.split({str(path): float(len(own)) for path, own in groups})
    found = [_judge(path, own, judged, evaluator, phases[str(path)]) for path, own in groups]
    rows = [row for row, _ in found]
    for row, masks in found[1:]:
        row["differences"] = _differences(rows[0], found[0][1], row, masks)
    return {
        "version": __version__,
        "attack": evaluator.describe(judged.dataset),
        "dataset": judged.dataset.title,
        "targets": targets_of(judged.networks),
        "all_images": len(judged.dataset.test),
        "groups": rows,
        "settings": differing([settings_of(path, own) for path, own in groups]),
    }


def runs_of(path: Path) -> list[Path]:
    """The runs on the front of a sweep; any other path itself."""
    folder = expanded(path)
    if not (folder / SWEEP).exists():
        return [path]
    path = folder / RESULTS
    rows = read_json(path).get("trials") if path.exists() else []
    front = []
    for row in rows if isinstance(rows, list) else [None]:
        match row:
            case {"kind": "front" | "dominated" as kind, "run": str(run)}:
                front += [folder / Path(run).name] if kind == "front" else []
            case _:
                raise InputError(f"{path} is damaged; repeat the sweep's command to have it anew")
    if not front:
        raise InputError(f"the sweep in {folder} has no front yet; let it end")
    return front


def _judge(
    path: Path,
    networks: Sequence[NetworkFile],
    judged: Judged,
    evaluator: Evaluator,
    progress: Progress,
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """What stands of a group, and which images each of its networks is right about."""
    modules = [network.module for network in networks]
    if len(by_architecture(modules)) > 1:
        raise InputError(f"{path} holds networks of several architectures: name them one by one")
    dataset = judged.dataset
    population = Population.of(module.to(dataset.device) for module in modules)
    judgement = evaluator.judge(population, dataset, progress)
    rows = [
        {"file": str(network.path), **row}
        for network, row in zip(
            networks, evaluator.rows(judgement, population, dataset), strict=True
        )
    ]
    points = [[row["accuracy"], row["robustness"]] for row in rows]
    group = {
        "path": str(path),
        "networks": rows,
        "summary": summarise(rows),
        "hypervolume": hypervolume(points, dataset.num_classes),
        "disagreement": None,
    }
    if len(rows) > 1:
        images, labels = dataset.test.first(DISAGREEMENT_IMAGES)
        group["disagreement"] = pairwise_differences(population, images, labels)["disagreement"]
    return group, judgement.figures


def _differences(
    first: Mapping[str, Any],
    first_masks: Mapping[str, Tensor],
    other: Mapping[str, Any],
    masks: Mapping[str, Tensor],
) -> dict[str, Any]:
    """By how much the other group's mean lies above the first's, by figure."""
    found = {}
    for name in ("accuracy", "robustness"):
        error = paired_error(masks[name].double().mean(0) - first_masks[name].double().mean(0))
        mine, theirs = ([row[name] for row in group["networks"]] for group in (other, first))
        apart = difference(name, mine, theirs, error)
        found[name] = {"mean": apart.mean, "low": apart.low, "high": apart.high}
    return found


def settings_of(path: Path, networks: Sequence[NetworkFile]) -> dict[str, Any]:
    """The settings of a run, by their short names, else what its first weight file says made it."""
    folder = expanded(path)
    if (folder / CONFIG).exists():
        return RunSettings.load(folder).config.flat()
    return {name: value for name, value in networks[0].metadata.items() if name not in OF_ONE}


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which groups that have them differ: a value a group, None for none."""
    found = {}
    for name in dict.fromkeys(name for own in settings for name in own):
        known = [own[name] for own in settings if name in own]
        if any(value != known[0] for value in known):
            found[name] = [own.get(name) for own in settings]
    return found
