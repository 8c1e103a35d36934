"""The samples of a run beside directly trained networks: what is compared, and the figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hypergen import __version__
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.cached_measure import is_share
from hypergen.evaluation.diversity import pairwise_differences
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.statistics import (
    agreement,
    kendall_tau,
    measuring_error,
    paired_error,
    ranking_error,
    summarise,
)
from hypergen.experiments.attacked_samples import attacked_samples
from hypergen.experiments.competitors import competitors
from hypergen.experiments.front_growth import growth
from hypergen.experiments.pages import REPORT, write_page
from hypergen.experiments.run_folder import RESULTS, ReportConfig, read_metrics
from hypergen.experiments.run_page import page_of_run
from hypergen.experiments.sample import save_samples
from hypergen.measures import Measure
from hypergen.report.page.attacks import AttackedSample
from hypergen.report.plots import write_pictures
from hypergen.report.scatter import run_scatter
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.storage.atomic import write_json
from hypergen.storage.results_cache import ResultsCache
from hypergen.training.direct_config import BaselineConfig
from targets import Ensemble, Population

SAMPLE_SEED = 2**20
"""Added to the run's seed for its samples, so that `hypergen sample` draws others."""
VOTERS = 10
"""How many of the samples vote together."""
REPORTED = "report.masks.jsonl"
"""What a report that is being made has found so far: a killed one goes on from there."""
DISAGREEMENT_IMAGES = 10_000
Errors = dict[str, dict[str, float]]
JUDGED = {"accuracy": "accuracy", "robustness": "pgd"}
"""Measures that the evaluator judges, by attacks of its own, and what it calls them."""


def report(
    folder: Path,
    sampler: Sampler,
    dataset: Dataset,
    sizes: ReportConfig,
    baselines: Mapping[Path, BaselineConfig],
    sessions: Sessions,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measures the samples (and the baselines), writes samples/, results.json and the pictures.

    baselines: the files of directly trained networks, as `direct_recipes` has them, or none;
    sessions: of the run, this one included.

    Returns what results.json holds: attack, dataset, networks (each of a `kind`), summary by kind,
    disagreement, how well the value network knew the samples, and the sizes that were asked for.
    """
    config = sampler.config
    seed = config.optimisation.seed + SAMPLE_SEED
    population, z, preferences = sampler.draw(sizes.samples, seed=seed)
    groups = competitors(folder, sampler, dataset, population, baselines)
    evaluator = replace(judge_of(config, sizes), cache=ResultsCache(folder / REPORTED))
    others = [measure for measure in sampler.measures if measure.name not in JUDGED]
    networks, errors = measure(groups, evaluator, others, dataset, sizes, progress)
    own = [row for row in networks if row["kind"] == "sample"]
    estimates, _ = sampler.estimate(population, dataset)
    for row, estimate, sample_z, asked in zip(own, estimates, z, preferences, strict=True):
        row["estimated"] = sampler.named(estimate)
        row |= {"z": sample_z.tolist(), **sampler.preference_row(asked)}
    names = [measure.name for measure in sampler.measures]
    result = summary_of(networks, groups, evaluator, names, dataset, sizes)
    result["image_errors"] = errors
    # Networks of different radii are easily told apart, which would flatter V.
    mixed = config.knob.name == "radius" and config.objective.kind != "direct"
    taus = {} if mixed else training_taus(folder, names)
    result |= {"seed": config.optimisation.seed, "targets": [config.target]}
    result |= {"report": asdict(sizes), "baselines": bool(baselines)}
    result["value_network"] = agreement(names, estimates.cpu(), own)
    result["objective"] = config.objective.kind
    result["for_robustness"] = config.objective.is_robustness
    if config.has_front:
        result["front_growth"] = growth(folder, sampler, dataset)
    for each, figures in zip(sampler.measures, result["value_network"].values(), strict=True):
        attacked = each.name != "accuracy"
        images = result["attack"]["images"] if attacked else result["all_images"]
        shares = [row[each.name] for row in own]
        error = measuring_error(shares, images) if is_share(each) else None
        figures["measuring_error"] = error
        figures["ranking_error"] = errors.get(JUDGED.get(each.name, ""), {}).get("sample", error)
        figures["training_tau"] = taus.get(each.name)
    _write_samples(folder, sampler, population, own, result["attack"], seed)
    names = [Path(row["file"]).stem for row in own]
    shown = attacked_samples(population, names, dataset, evaluator)
    result[SESSIONS] = sessions.rows()
    write(folder, result, shown)
    return result


def judge_of(config: TrainConfig, sizes: ReportConfig) -> Evaluator:
    """What judges the samples of a run and what they are compared with."""
    return Evaluator(
        config.threat,
        restarts=1,
        images=sizes.images,
        seed=config.optimisation.seed,
        split=sizes.split,
    )


def write(folder: Path, result: dict[str, Any], attacked: Sequence[AttackedSample] = ()) -> None:
    """Writes scatter.png and .svg, report.html and, last, results.json.

    attacked: images to show, attacked against some samples.
    """
    write_pictures(folder / "scatter.png", run_scatter(result))
    write_page(folder / REPORT, page_of_run(folder, result, attacked))
    write_json(folder / RESULTS, result)


def measure(
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    others: Sequence[Measure],
    dataset: Dataset,
    sizes: ReportConfig,
    progress: Progress = SILENT,
) -> tuple[list[dict[str, Any]], Errors]:
    """A row a network of each kind, and one for the samples, and FBF networks, voting; and errors.

    These are what the choice of images leaves open of the samples' mean less that of another kind,
    and, for the kind "sample" itself, of one sample less their mean: standard errors, by accuracy,
    pgd or sra and by the kind.

    others: measures of the run beside those that are `JUDGED`.
    """
    # As one population: groups one after the other would often leave a core idle.
    everyone = Population.of(network for group in groups.values() for network in group)
    places = [(kind, place) for kind, group in groups.items() for place in range(len(group))]
    few = [index for index, (_, place) in enumerate(places) if place < sizes.sra_samples]
    strong = replace(evaluator, attack_name="standard", images=sizes.sra_images)
    phases = progress.split(report_costs(map(len, groups.values()), evaluator, dataset, sizes))
    kinds = [kind for kind, _ in places]
    judged = evaluator.judge(everyone, dataset, phases["PGD"])
    errors = {name: _image_errors(kinds, judged.figures[name]) for name in ("accuracy", "pgd")}
    rows = evaluator.rows(judged, everyone, dataset)
    networks = [{"kind": kind, **row} for (kind, _), row in zip(places, rows, strict=True)]
    for row, figures in zip(networks, _further(others, groups, evaluator, dataset), strict=True):
        row |= figures
    if few:
        strongly = strong.judge(everyone.choose(few), dataset, phases["SRA"])
        errors["sra"] = _image_errors([kinds[index] for index in few], strongly.figures["sra"])
        for index, row in zip(few, strongly.rows, strict=True):
            networks[index] |= {"sra": row["sra"], "sra_interval": row["interval"]}
            networks[index]["after"] = row["after"]
            networks[index]["pgd_on_sra_images"] = row["pgd"]
    for kind in ("sample", "fbf"):
        if len(groups.get(kind, ())) > 1:
            voters = Ensemble(groups[kind][:VOTERS])
            (row,) = evaluator.evaluate(voters, dataset)
            networks.append({"kind": f"{len(voters.members)} {kind} voting", **row})
    return networks, errors


def _image_errors(kinds: Sequence[str], masks: Tensor) -> dict[str, float]:
    """See `measure`; masks bool [P,N], kinds [P]."""
    groups = {kind: masks[[each == kind for each in kinds]] for kind in dict.fromkeys(kinds)}
    own = groups.pop("sample")
    mine = own.double().mean(0)
    errors = {kind: paired_error(mine - group.double().mean(0)) for kind, group in groups.items()}
    return errors | ({"sample": ranking_error(own)} if len(own) > 1 else {})


def _further(
    measures: Sequence[Measure],
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    dataset: Dataset,
) -> list[dict[str, float]]:
    """What the measures say of each network, by their names.

    Kind by kind: some, such as `transfer`, depend on which networks are measured together.
    """
    rows = []
    for group in groups.values():
        figures = {each.name: evaluator.figures(each, group, dataset) for each in measures}
        rows += [
            {name: values[place] for name, values in figures.items()} for place in range(len(group))
        ]
    return rows


def report_costs(
    counts: Iterable[int], evaluator: Evaluator, dataset: Dataset, sizes: ReportConfig
) -> dict[str, float]:
    """About what each phase of `measure` costs, in forward passes; counts: of networks by kind."""
    counts = list(counts)
    few = sum(min(count, sizes.sra_samples) for count in counts)
    strong = replace(evaluator, attack_name="standard", images=sizes.sra_images)
    return {
        "PGD": sum(evaluator.costs(dataset, sum(counts)).values()),
        "SRA": sum(strong.costs(dataset, few).values()),
    }


def summary_of(
    networks: list[dict[str, Any]],
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    names: Sequence[str],
    dataset: Dataset,
    sizes: ReportConfig,
) -> dict[str, Any]:
    """What results.json says of the networks of each kind, and of how they were measured."""
    split = evaluator.images_of(dataset)
    images, labels = split.first(DISAGREEMENT_IMAGES)
    differ = {
        kind: pairwise_differences(group, images, labels)
        for kind, group in groups.items()
        if len(group) > 1
    }
    sra, others = None, [name for name in names if name not in JUDGED]
    if sizes.sra_samples:
        sra = {"images": min(len(split), sizes.sra_images), "name": "standard"}
    return {
        "version": __version__,
        "attack": evaluator.describe(dataset),
        "sra": sra,
        "dataset": dataset.title,
        "all_images": len(split),
        "num_classes": dataset.num_classes,
        "networks": networks,
        "measures": list(names),
        "summary": {
            kind: summarise([row for row in networks if row["kind"] == kind], others)
            for kind in dict.fromkeys(row["kind"] for row in networks)
        },
        "disagreement": {kind: own["disagreement"] for kind, own in differ.items()},
        "error_overlap": {kind: own["error_overlap"] for kind, own in differ.items()},
    }


def training_taus(folder: Path, measures: Iterable[str]) -> dict[str, float]:
    """How well V ranked what it was shown over the whole training: Kendall's tau by measure.

    Between the means that were measured and those that it estimated, from measurement to
    measurement.
    """
    steps = read_metrics(folder)
    taus = {}
    for measure in measures:
        names = f"estimated/{measure}", f"measured/{measure}"
        rows = [[step.get(name) for name in names] for step in steps]
        pairs = [row for row in rows if all(isinstance(value, float) for value in row)]
        tau = kendall_tau(*zip(*pairs, strict=True)) if len(pairs) > 1 else None
        if tau is not None:
            taus[measure] = tau
    return taus


def _write_samples(
    folder: Path,
    sampler: Sampler,
    population: Population,
    rows: list[dict[str, Any]],
    attack: dict[str, Any],
    seed: int,
) -> None:
    """Writes each sample with its figures, and its path into its row."""
    samples = folder / "samples"
    made = {"seed": seed, "attack": attack}
    paths = save_samples(samples, sampler, population, [row | made for row in rows])
    for stale in {*samples.glob("sample-*.safetensors")} - {*paths}:  # of an earlier report
        stale.unlink()
    for row, path in zip(rows, paths, strict=True):
        row["file"] = str(path.relative_to(folder))
