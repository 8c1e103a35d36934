"""Looks at networks that stand in files: one analysis after the other, samples beside baselines."""

import copy
import json
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
from hypergen.data import Dataset
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import by_architecture
from hypergen.experiments.evaluate import open_for
from hypergen.experiments.evaluate_config import AttackConfig
from hypergen.experiments.pages import REPORT, write_page
from hypergen.experiments.run import load_generator
from hypergen.experiments.run_folder import RESULTS
from hypergen.experiments.run_page import analyses_in
from hypergen.knob import KNOBS
from hypergen.report.page.analyses import analysis_page
from hypergen.report.plots import FORMATS, write_pictures
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.settings import COUNT
from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.folders import CONFIG, expanded, require_folder
from hypergen.storage.network_files import NetworkFile, find
from targets import Population

PREFERENCE = *KNOBS, "preference"
"""What a weight file may say of what its network was asked for."""
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
    """an analysis by its name, repeatable (see `hypergen list analysis`); by default all that take
    less than minutes for ten small networks"""
    count: Annotated[int, COUNT] = 8
    """networks of each group, the first, that are looked at"""
    images: Annotated[int, COUNT] = 100
    """test images looked at; dear analyses take the first few of these, accuracies are of 1000"""
    attack: str = "pgd"
    """what attacked images are made by: any attack by its name"""
    steps: Annotated[int, COUNT] = 20
    """of PGD"""
    restarts: Annotated[int, COUNT] = 1
    """of PGD"""

    def require(self) -> None:
        super().require()
        for name in self.what:
            _made(name)

    @property
    def analyses(self) -> dict[str, Analysis]:
        """What is asked for, by name."""
        made = {name: _made(name) for name in self.what or ANALYSES}
        return {name: each for name, each in made.items() if self.what or each.by_default}


def _made(name: str) -> Analysis:
    """The analysis of that name. `InputError`: an unknown one, or something else than one."""
    maker = ANALYSES.get(name)
    try:
        made = maker()
    except TypeError as error:  # it wants arguments, or lacks a method
        raise InputError(f"the analysis {name} cannot be made: {error}") from error
    if not isinstance(made, Analysis):
        raise InputError(f"the analysis {name} must be a class derived from hypergen.Analysis")
    told = isinstance(getattr(made, "title", None), str), hasattr(made, "figures"), made.cost > 0
    if not all(told):
        raise InputError(f"the analysis {name} must have a title, figures and a cost above 0")
    return made


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
    for group in groups:
        _require_answers(group, dataset)
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

    Returns version, dataset, attack, groups (name, number of networks, and of each network its file
    and the preference it was drawn at), sessions, and `analyses`: by name, title, figures (what
    they mean), rows (one a network), skipped (groups it says nothing of, and why) and failed (what
    it broke on, and how). The same is in results.json of the folder `out`, beside pictures NAME.png
    and .svg of each analysis and report.html; all grow with every analysis done, and what an
    earlier call has found about the same stays there.

    `InputError`: an `out` that holds what was found about other networks or images.
    """
    evaluator = options.evaluator(threat)
    context = Context(dataset, threat, evaluator.attack, evaluator.images, evaluator.seed)
    analyses = options.analyses
    about: dict[str, Any] = {
        "version": __version__,
        "dataset": dataset.name,
        "attack": evaluator.describe(dataset),
        "groups": [_described(group) for group in groups],
    }
    result = about | {"analyses": {}}
    earlier = {} if out is None else _found_before(out, about)
    before, sessions = earlier.get("analyses", {}), Sessions(dataset.device, earlier.get(SESSIONS))
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
            "failed": found.failed,
        }
        result[SESSIONS] = sessions.rows()
        if out is None:
            continue
        write_json(out / RESULTS, result | {"analyses": before | result["analyses"]})
        if found.figure is None:
            for suffix in FORMATS:
                (out / f"{name}{suffix}").unlink(missing_ok=True)
        else:
            write_pictures(out / f"{name}.png", found.figure)
    told = None if out is None else analyses_in(out)
    if out is not None and told is not None:
        write_page(out / REPORT, analysis_page(out.absolute().name, told))
    return result


def _described(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "networks": len(group.population),
        "files": [*group.files],
        "preferences": [*group.preferences],
    }


def _found_before(out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """A folder's results, if there are any. `InputError`: of other networks or images."""
    path = out / RESULTS
    tree = read_json(path) if path.exists() else {}
    if tree and {name: tree.get(name) for name in about} != json.loads(json.dumps(about)):
        raise InputError(f"{path} is about other networks or images; choose another `out`")
    return tree


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
    files = sorted((folder / BASELINES).glob("*.safetensors"))
    for file in (
        file for file in files if file.suffixes == [".safetensors"]
    ):  # no half-trained one
        method = file.stem.rpartition("-")[0]
        found.setdefault(method, Source(f"{prefix}{method}", [])).files.append(file)
    return [*found.values()]


def _group(source: Source, networks: Sequence[NetworkFile], dataset: Dataset) -> Group:
    population = _population(source.name, [network.module for network in networks], dataset)
    said = networks[0].metadata
    described = [str(said[key]) for key in ("target", "activation") if key in said]
    sampler = None if source.run is None else load_generator(source.run, dataset)
    files = tuple(str(network.path) for network in networks)
    preferences = tuple(
        {name: network.metadata[name] for name in PREFERENCE if name in network.metadata}
        for network in networks
    )
    return Group(source.name, population, " with ".join(described), files, sampler, preferences)


def _require_answers(group: Group, dataset: Dataset) -> None:
    """`InputError` unless networks take images of the data set and know all of its classes."""
    images, _ = dataset.test.first(1)
    try:
        with torch.no_grad():
            logits = group.population[0](images)
    except RuntimeError as error:
        shape = list(dataset.input_shape)
        raise InputError(f"{group.name}: no network for images {shape}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, dataset.num_classes):
        raise InputError(f"{group.name}: expected {dataset.num_classes} logits of an image")


def _population(name: str, modules: Sequence[nn.Module], dataset: Dataset) -> Population:
    if len(by_architecture(modules)) > 1:
        raise InputError(f"{name} holds networks of several architectures: name them one by one")
    return Population.of(copy.deepcopy(module).eval().to(dataset.device) for module in modules)
