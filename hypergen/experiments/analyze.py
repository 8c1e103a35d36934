"""Looks at networks that stand in files: one analysis after the other, samples beside baselines."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

import attacks
from hypergen import __version__
from hypergen.analysis import Analysis, Context, Group
from hypergen.catalog import ANALYSES
from hypergen.config import threat_on
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import by_architecture
from hypergen.experiments.evaluate import open_for
from hypergen.experiments.evaluate_config import AttackConfig
from hypergen.experiments.run import load_generator
from hypergen.experiments.run_folder import RESULTS
from hypergen.report.plots import write_picture
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import COUNT
from hypergen.storage.atomic import write_json
from hypergen.storage.folders import CONFIG, expanded, require_folder
from hypergen.storage.network_files import NetworkFile, find
from targets import Population

BASELINES = "baselines"
"""Folder, in that of a run, of what its samples are compared with."""


@dataclass
class Source:
    """The weight files of a group, by its name; run: the folder of the run that drew them."""

    name: str
    files: list[Path]
    run: Path | None = None


@dataclass(frozen=True)
class AnalyzeConfig(AttackConfig):
    """What is looked at, in which networks, and on which images."""

    what: tuple[str, ...] = ()
    """an analysis by its name, repeatable (see `hypergen list analysis`); by default those that
    take minutes"""
    count: Annotated[int, COUNT] = 8
    """networks of each group, the first, that are looked at"""
    images: Annotated[int, COUNT] = 100
    """test images looked at"""
    attack: str = "pgd"
    """what attacked images are made by: any attack by its name"""
    steps: Annotated[int, COUNT] = 20
    """of PGD"""
    restarts: Annotated[int, COUNT] = 1
    """of PGD"""

    def require(self) -> None:
        super().require()
        for name in self.what:
            ANALYSES.get(name)

    @property
    def analyses(self) -> dict[str, Analysis]:
        """What is asked for, by name."""
        made = {name: ANALYSES.get(name)() for name in self.what or ANALYSES}
        return {name: each for name, each in made.items() if self.what or each.by_default}


def analyze_files(
    paths: Sequence[Path],
    options: AnalyzeConfig,
    out: Path | None,
    device: torch.device,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Looks at the networks of each path as a group, and at the baselines of runs beside them.

    dataset: to look at; by default the one that the options or the files name. All else as in
    `analyze`. `InputError`: as from `open_for`, a path that is given twice, or one that holds
    networks of several architectures.
    """
    if out is not None:
        require_folder(out)
    twice = [path for path in paths if [*paths].count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice")
    sources = [source for path in paths for source in _sources(path, len(paths) > 1)]
    for source in sources:
        del source.files[options.count :]
    files = [file for source in sources for file in source.files]
    judged = open_for(files, options, device, data_dir, dataset)
    networks = iter(judged.networks)
    groups = [
        _group(source, [*islice(networks, len(source.files))], judged.dataset) for source in sources
    ]
    return analyze(groups, judged.dataset, judged.threat, options, out, progress)


def analyze_modules(
    modules: Mapping[str, Sequence[nn.Module]],
    options: AnalyzeConfig,
    out: Path | None,
    dataset: Dataset,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Looks at groups of networks in memory by their names; as `analyze`."""
    if out is not None:
        require_folder(out)
    threat = threat_on(dataset.name, options.norm or "linf", options.epsilon)
    groups = [
        Group(name, _population(name, own[: options.count], dataset))
        for name, own in modules.items()
    ]
    return analyze(groups, dataset, threat, options, out, progress)


def analyze(
    groups: Sequence[Group],
    dataset: Dataset,
    threat: attacks.Threat,
    options: AnalyzeConfig,
    out: Path | None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Looks at groups of networks, one analysis after the other.

    Returns version, dataset, attack, groups (name and number of networks of each), and `analyses`:
    by name, title, figures (what they mean), rows (one a network) and skipped (groups it says
    nothing of, and why). The same is in results.json of the folder `out`, beside a picture NAME.png
    for each analysis; both grow with every analysis that is done.
    """
    evaluator = options.evaluator(threat)
    context = Context(dataset, threat, evaluator.attack, evaluator.images, evaluator.seed)
    analyses = options.analyses
    result: dict[str, Any] = {
        "version": __version__,
        "dataset": dataset.name,
        "attack": evaluator.describe(dataset),
        "groups": [{"name": group.name, "networks": len(group.population)} for group in groups],
        "analyses": {},
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    phases = progress.split({name: each.cost for name, each in analyses.items()})
    for name, each in analyses.items():
        found = each.run(groups, context, phases[name])
        phases[name].finish()
        result["analyses"][name] = {
            "title": each.title,
            "figures": dict(each.figures),
            "rows": found.rows,
            "skipped": found.skipped,
        }
        if out is None:
            continue
        if found.figure is not None:
            write_picture(out / f"{name}.png", found.figure)
        write_json(out / RESULTS, result)
    return result


def default_folder(paths: Sequence[Path]) -> Path:
    """Where results go unless it is said: "analysis" in the folder of the first path, a run.

    `InputError`: the first path is no run.
    """
    find(paths[:1])  # which says what is wanted
    first = expanded(paths[0])
    if not (first / CONFIG).exists():
        raise InputError("say where results go by `out`: the first path is not a run")
    return first / "analysis"


def _sources(path: Path, prefixed: bool) -> list[Source]:
    """What a path stands for: of a run its samples, then its baselines, a group for each method.

    prefixed: the names of these say of which run they are.
    """
    folder = expanded(path)
    if not (folder / CONFIG).exists():
        return [Source(str(path), find([path]))]
    prefix = f"{path}: " if prefixed else ""
    found = {"sample": Source(f"{prefix}sample", find([path]), folder)}
    for file in sorted((folder / BASELINES).glob("*.safetensors")):
        method = file.stem.rpartition("-")[0]
        found.setdefault(method, Source(f"{prefix}{method}", [])).files.append(file)
    return [*found.values()]


def _group(source: Source, networks: Sequence[NetworkFile], dataset: Dataset) -> Group:
    population = _population(source.name, [network.module for network in networks], dataset)
    said = networks[0].metadata
    described = [str(said[key]) for key in ("target", "activation") if key in said]
    sampler = None if source.run is None else load_generator(source.run, dataset)
    return Group(source.name, population, " with ".join(described), sampler)


def _population(name: str, modules: Sequence[nn.Module], dataset: Dataset) -> Population:
    if len(by_architecture(modules)) > 1:
        raise InputError(f"{name} holds networks of several architectures: name them one by one")
    return Population.of(copy.deepcopy(module).eval().to(dataset.device) for module in modules)
