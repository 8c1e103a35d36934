"""Looks at networks that stand in files: one analysis after the other, samples beside baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch

from hypergen import __version__
from hypergen.analysis import Analysis, Context, Finding, Group
from hypergen.catalog import ANALYSES
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import by_architecture
from hypergen.experiments.evaluate import Judged, open_for
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
    networks: Annotated[int, COUNT] = 8
    """the first of each group are looked at"""
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


def analyze(
    paths: Sequence[Path],
    options: AnalyzeConfig,
    out: Path,
    device: torch.device,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Looks at the networks of each path as a group, and at the baselines of runs beside them.

    Returns version, dataset, attack, groups (name and number of networks of each), and `analyses`:
    by name, title, figures (what they mean), rows (one a network) and skipped (groups it says
    nothing of, and why). The same is in results.json of the folder `out`, beside a picture NAME.png
    for each analysis; both grow with every analysis that is done.

    `InputError`: as from `open_for`, a path that is given twice, or one that holds networks of
    several architectures.
    """
    require_folder(out)
    groups, judged = _opened(paths, options, device, data_dir)
    evaluator = options.evaluator(judged.threat)
    context = Context(
        judged.dataset, judged.threat, evaluator.attack, evaluator.images, evaluator.seed
    )
    analyses = options.analyses
    result: dict[str, Any] = {
        "version": __version__,
        "dataset": judged.dataset.name,
        "attack": evaluator.describe(judged.dataset),
        "groups": [{"name": group.name, "networks": len(group.population)} for group in groups],
        "analyses": {},
    }
    out.mkdir(parents=True, exist_ok=True)
    phases = progress.split({name: each.cost for name, each in analyses.items()})
    for name, each in analyses.items():
        found = each.run(groups, context, phases[name])
        phases[name].finish()
        if found.figure is not None:
            write_picture(out / f"{name}.png", found.figure)
        result["analyses"][name] = _told(each, found)
        write_json(out / RESULTS, result)
    return result


def default_folder(paths: Sequence[Path]) -> Path:
    """Where results go unless it is said: "analysis" in the folder of the first path, a run.

    `InputError`: the first path is no run.
    """
    first = expanded(paths[0]) if paths else None
    if first is None or not (first / CONFIG).exists():
        raise InputError("say where results go by `out`: the first path is not a run")
    return first / "analysis"


def _told(analysis: Analysis, found: Finding) -> dict[str, Any]:
    return {
        "title": analysis.title,
        "figures": dict(analysis.figures),
        "rows": found.rows,
        "skipped": found.skipped,
    }


def _opened(
    paths: Sequence[Path], options: AnalyzeConfig, device: torch.device, data_dir: Path | None
) -> tuple[list[Group], Judged]:
    """The groups of networks that paths stand for, and what they are looked at with."""
    twice = [path for path in paths if [*paths].count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice")
    sources = [source for path in paths for source in _sources(path, len(paths) > 1)]
    for source in sources:
        del source.files[options.networks :]
    files = [file for source in sources for file in source.files]
    judged = open_for(files, options, device, data_dir)
    networks = iter(judged.networks)
    groups = [
        _group(source, [*islice(networks, len(source.files))], judged.dataset) for source in sources
    ]
    return groups, judged


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
    modules = [network.module for network in networks]
    if len(by_architecture(modules)) > 1:
        raise InputError(
            f"{source.name} holds networks of several architectures: name them one by one"
        )
    population = Population.of(module.to(dataset.device) for module in modules)
    said = networks[0].metadata
    described = [str(said[key]) for key in ("target", "activation") if key in said]
    sampler = None if source.run is None else load_generator(source.run, dataset)
    return Group(source.name, population, " with ".join(described), sampler)
