"""Judges networks that stand in files: accuracy, robustness, and signs that these are not real."""

import copy
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import attacks
from hypergen import data
from hypergen.data import Dataset, DatasetInfo
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.evaluation.diversity import pairwise_differences
from hypergen.evaluation.evaluator import Evaluator, by_architecture
from hypergen.evaluation.statistics import summarise
from hypergen.experiments.evaluate_config import AttackConfig, EvaluateConfig, parse_measure
from hypergen.experiments.network_group import NetworkGroup
from hypergen.measures import Measure, build_measure
from hypergen.measures.norms import parse_norms
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.folders import CONFIG, expanded
from hypergen.storage.network_files import NetworkFile, agreed, find, open_networks
from hypergen.storage.results_cache import ResultsCache
from targets import Ensemble, Population

DISAGREEMENT_IMAGES = 10_000
SHOWN_FILES = 3
"""How many a message names."""


@dataclass(frozen=True)
class Judged:
    """Networks from files, and what they are judged on."""

    networks: list[NetworkFile]
    dataset: Dataset
    threat: attacks.Threat


def targets_of(networks: Iterable[NetworkFile]) -> list[str]:
    """The names of the networks' targets, as far as their files say, each once."""
    names = dict.fromkeys(network.metadata.get("target") for network in networks)
    return [str(name) for name in names if name is not None]


def open_for(
    paths: Sequence[Path],
    options: AttackConfig,
    device: torch.device,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
) -> Judged:
    """The networks, the data set and the threat that the files and the options agree on.

    dataset: to judge on; by default loaded by its name.
    `InputError`: files that cannot be read, or that differ in what the options do not say.
    """
    files = find(paths)
    tell_skipped(paths)
    info = None if dataset is None else dataset.info
    if info is None and options.target is not None and options.dataset is not None:
        info = _load(options, options.dataset, None, data_dir, "cpu").info
    networks = open_networks(files, options.target, options.activation, info)
    name = options.dataset or agreed(networks, "dataset")
    if name is None:
        raise InputError("the files do not name a data set; choose one by `dataset`")
    data.require_known(name)
    threat = _agreed_threat(networks, options, name)
    own = {tuple(network.metadata.get("input_shape", ())) for network in networks}
    made_for = {network.metadata.get("dataset") for network in networks}
    shape = own.pop() if len(own) == 1 and made_for == {name} else None
    if dataset is None:
        dataset = _load(options, name, shape, data_dir, device)
    for network in networks:
        require_images(network, dataset.info)
    return Judged(networks, dataset, threat)


def _agreed_threat(
    networks: Sequence[NetworkFile], options: AttackConfig, dataset: str
) -> attacks.Threat:
    """The threat of the options, else of the files; what neither gives is told by a warning."""
    norm = options.norm or agreed(networks, "norm") or "linf"
    # A radius means nothing in another norm.
    alike = [each for each in networks if (each.metadata.get("norm") or "linf") == norm]
    epsilon = agreed(alike, "epsilon") if options.epsilon is None else options.epsilon
    threat = threat_on(dataset, norm, epsilon)
    radii = {each.path: each.metadata.get("epsilon") for each in alike}
    silent = {
        "norm": [each.path for each in networks if each.metadata.get("norm") is None],
        "epsilon": [each.path for each in networks if radii.get(each.path) is None],
    }
    assumed = [name for name in silent if getattr(options, name) is None and silent[name]]
    if assumed:
        values = {"norm": norm, "epsilon": f"{threat.epsilon:g}"}
        told = " and ".join(f"`{name}` {values[name]}" for name in assumed)
        files = dict.fromkeys(path for name in assumed for path in silent[name])
        give = "does not give" if len(files) == 1 else "do not give"
        warnings.warn(f"assumed {told}, which {_first(files)} {give}", stacklevel=4)
    return threat


def _first(paths: Iterable[Path]) -> str:
    """The first few paths, as a message has them."""
    names = [*map(str, paths)]
    return ", ".join(names[:SHOWN_FILES]) + ", ..." * (len(names) > SHOWN_FILES)


def tell_skipped(paths: Sequence[Path]) -> None:
    """Warns, in one line, of files in the folders among `paths` that `find` leaves out."""
    folders = [path for path in map(expanded, paths) if path.is_dir()]
    inside = [path / "samples" if (path / CONFIG).exists() else path for path in folders]
    skipped = sorted(
        file
        for folder in inside
        for file in folder.iterdir()
        if file.is_file() and file.suffix != ".safetensors" and not file.name.startswith(".")
    )
    if skipped:
        are = "1 file that is" if len(skipped) == 1 else f"{len(skipped)} files that are"
        warnings.warn(
            f"left out {are} not .safetensors: {_first(skipped)}; name files one by one to "
            "judge them too",
            stacklevel=3,
        )


def _load(
    options: AttackConfig,
    name: str,
    shape: tuple[int, ...] | None,
    data_dir: Path | None,
    device: torch.device | str,
) -> Dataset:
    """The data set as the options say, else as the networks of images `shape` (C,H,W) saw it."""
    size, grey = options.image_size, options.grey
    if shape and size is None and shape[1] == shape[2]:
        size = shape[1]
    return data.load(name, data_dir, device, size, grey or bool(shape and shape[0] == 1))


def require_images(network: NetworkFile, info: DatasetInfo) -> None:
    """`InputError` unless the network takes such images, and knows as many classes."""
    shape, classes = list(info.input_shape), info.num_classes
    taken = network.metadata.get("input_shape", shape)
    if taken != shape:
        raise InputError(f"{network.path} takes images {taken}; those of {info.name} are {shape}")
    known = network.metadata.get("num_classes", classes)
    if known != classes:
        raise InputError(f"{network.path} knows {known} classes; {info.name} has {classes}")


def evaluate(
    networks: Sequence[NetworkFile],
    dataset: Dataset,
    evaluator: Evaluator,
    device: torch.device,
    ensemble: bool = False,
    checks: bool = False,
    measures: Sequence[Measure] = (),
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """What `hypergen evaluate --json` writes: attack, dataset, measures, networks, summary, failed.

    With `ensemble` also how they do as one, by voting and drawn anew for every query; with `checks`
    every network's row has besides what `sanity_checks.check` reports, and for each of the
    `measures` the figure by its name. A network that gives no numbers, or not those of a measure,
    is named under "failed", with the reason, and costs the others nothing.
    """
    modules = [network.module for network in networks]
    groups = by_architecture(modules)
    if ensemble and len(groups) > 1:
        raise InputError("`ensemble` needs networks of one architecture")
    rows: dict[int, dict[str, Any]] = {}
    failed: dict[int, str] = {}
    phases = progress.split({str(members[0]): float(len(members)) for members in groups})
    for members in groups:
        how = evaluator, dataset, device, checks, measures, phases[str(members[0])]
        own = NetworkGroup(*how).rows({index: modules[index] for index in members}, failed)
        for index, row in own.items():
            rows[index] = {**networks[index].metadata, "file": str(networks[index].path), **row}
    sound = [rows[index] for index in sorted(rows)]
    names = [measure.name for measure in measures]
    result = {
        "attack": evaluator.describe(dataset),
        "dataset": dataset.title,
        "measures": names,
        "networks": sound,
        "summary": summarise(sound, names),
        "failed": {str(networks[index].path): failed[index] for index in sorted(failed)},
    }
    if len(groups) == 1 and len(sound) > 1:
        population = Population.of(modules[index] for index in sorted(rows)).to(device)
        images, labels = dataset.test.first(DISAGREEMENT_IMAGES)
        result["summary"] |= pairwise_differences(population, images, labels)
        if ensemble:
            mean = result["summary"]["accuracy"]["mean"]
            result["ensemble"] = evaluator.as_one(population, dataset, mean)
    return result


def evaluate_files(
    paths: Sequence[Path],
    options: EvaluateConfig,
    device: torch.device,
    data_dir: Path | None = None,
    cache: ResultsCache | None = None,
    progress: Progress = SILENT,
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Opens runs, folders of samples and weight files, and judges them; see `evaluate`.

    dataset: to judge on; by default the one that the options or the files name.
    """
    options, others = _threats(options)
    judged = open_for(paths, options, device, data_dir, dataset)
    evaluator = replace(options.evaluator(judged.threat, cache), others=tuple(others))
    return _judged(judged, options, evaluator, device, progress)


def evaluate_modules(
    modules: Sequence[nn.Module],
    options: EvaluateConfig,
    device: torch.device,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Judges networks in memory; see `evaluate`. They are told by "network 0", "network 1", ...

    dataset: to judge on; by default what the options name.
    """
    name = options.dataset
    if name is None:
        raise InputError("networks in memory name no data set; give a `dataset`")
    options, others = _threats(options)
    threat = threat_on(name, options.norm or "linf", options.epsilon)
    dataset = dataset or _load(options, name, None, data_dir, device)
    networks = [
        NetworkFile(Path(f"network {index}"), copy.deepcopy(module).eval(), {})
        for index, module in enumerate(modules)
    ]
    evaluator = replace(options.evaluator(threat), others=tuple(others))
    return _judged(Judged(networks, dataset, threat), options, evaluator, device, progress)


def _judged(
    judged: Judged,
    options: EvaluateConfig,
    evaluator: Evaluator,
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    """What `evaluate` returns; `InputError` for options that do not fit the networks."""
    voting = any(isinstance(each.module, Ensemble) for each in judged.networks)
    if options.ensemble and len(judged.networks) < 2:
        raise InputError("`ensemble` needs several networks, got one")
    if voting and (options.checks or options.measures):
        what = "`checks` looks" if options.checks else "a `measure` looks"
        raise InputError(f"{what} at single networks, not at an ensemble")
    if options.checks and judged.threat.epsilon == 0:
        raise InputError("`checks` needs an `epsilon` above 0: without one there is no figure")
    evaluator.attack  # noqa: B018  (refuses a norm that the attack does not know)
    measures = [build_measure(parse_measure(text), judged.threat) for text in options.measures]
    how = options.ensemble, options.checks, measures, progress
    return evaluate(judged.networks, judged.dataset, evaluator, device, *how)


def _threats(options: EvaluateConfig) -> tuple[EvaluateConfig, list[attacks.Threat]]:
    """The options with the first of their norms, and the threats of all others."""
    if options.norms is None:
        return options, []
    first, *others = parse_norms(options.norms)
    return replace(options, norm=first.norm, epsilon=first.epsilon, norms=None), others
