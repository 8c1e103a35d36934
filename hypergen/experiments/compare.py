"""The samples of a run beside directly trained networks: what is compared, and the figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hypergen import __version__
from hypergen.data import Dataset
from hypergen.evaluation.diversity import pairwise_differences
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.statistics import agreement, kendall_tau, summarise
from hypergen.experiments.competitors import competitors
from hypergen.experiments.run_folder import RESULTS, ReportConfig
from hypergen.experiments.sample import save_samples
from hypergen.measures import MEASURES, named
from hypergen.report.page import page
from hypergen.report.plots import scatter, write_picture
from hypergen.report.summary import run_table
from hypergen.report.tables import caption
from hypergen.report.verdict import verdict
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.tracker import METRICS
from hypergen.storage.atomic import write_json, write_text
from hypergen.training.direct_config import BaselineConfig
from targets import Ensemble, Population

SAMPLE_SEED = 2**20
"""Added to the run's seed for its samples, so that `hypergen sample` draws others."""
VOTERS = 10
"""How many of the samples vote together."""
DISAGREEMENT_IMAGES = 10_000


def report(
    folder: Path,
    sampler: Sampler,
    dataset: Dataset,
    sizes: ReportConfig,
    baselines: Mapping[Path, BaselineConfig],
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measures the samples (and the baselines), writes samples/, results.json and the pictures.

    baselines: the files of directly trained networks, as `direct_recipes` has them, or none.

    Returns what results.json holds: attack, dataset, networks (each of a `kind`), summary by kind,
    disagreement, how well the value network knew the samples, and the sizes that were asked for.
    """
    config = sampler.config
    seed = config.optimisation.seed + SAMPLE_SEED
    population, z, betas = sampler.draw(sizes.samples, seed=seed)
    groups = competitors(folder, sampler, dataset, population, baselines)
    evaluator = Evaluator(
        config.threat, restarts=1, images=sizes.images, seed=config.optimisation.seed
    )
    networks = measure(groups, evaluator, dataset, sizes, progress)
    own = [row for row in networks if row["kind"] == "sample"]
    estimates, _ = sampler.estimate(population, dataset)
    for row, estimate, sample_z, beta in zip(own, estimates.tolist(), z, betas, strict=True):
        row["estimated"] = named(estimate)
        row["z"], row["beta"] = sample_z.tolist(), float(beta)
    result = summary_of(networks, groups, evaluator, dataset, sizes)
    taus = training_taus(folder)
    result["seed"] = config.optimisation.seed
    result |= {"report": asdict(sizes), "baselines": bool(baselines)}
    result["value_network"] = {
        name: figures | {"training_tau": taus.get(name)}
        for name, figures in agreement(estimates.cpu(), own).items()
    }
    _write_samples(folder, sampler, population, own, result["attack"], seed)
    write(folder, result)
    return result


def write(folder: Path, result: dict[str, Any]) -> None:
    """Writes scatter.png, report.html and, last, results.json."""
    key = "sra" if result["sra"] else "pgd"
    title = caption(result | {"attack": result["attack"] | (result["sra"] or {})})
    picture = folder / "scatter.png"
    write_picture(picture, scatter(result["networks"], key, title))
    paragraphs = [verdict(result).replace("`", "")]
    html = page(folder.name, paragraphs, run_table(result), picture.read_bytes())
    write_text(folder / "report.html", html)
    write_json(folder / RESULTS, result)


def measure(
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    dataset: Dataset,
    sizes: ReportConfig,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """A row a network of each kind, and one for the samples, and FBF networks, voting."""
    strong = replace(evaluator, attack_name="standard", images=sizes.sra_images)
    voting = {kind: groups[kind] for kind in ("sample", "fbf") if len(groups.get(kind, ())) > 1}
    phases = progress.split(_costs(groups, evaluator, strong, dataset, sizes))
    networks: list[dict[str, Any]] = []
    for kind, group in groups.items():
        rows = evaluator.evaluate(group, dataset, phases[kind])
        if sizes.sra_samples:
            few = group[: sizes.sra_samples]
            some = strong.evaluate(few, dataset, phases[f"{kind}, SRA"])
            for row, judged in zip(rows, some, strict=False):
                row |= {"sra": judged["sra"], "after": judged["after"]}
                row["pgd_on_sra_images"] = judged["pgd"]
        networks += [{"kind": kind, **row} for row in rows]
    for kind, group in voting.items():
        voters = Ensemble(group[:VOTERS])
        (row,) = evaluator.evaluate(voters, dataset)
        networks.append({"kind": f"{len(voters.members)} {kind} voting", **row})
    return networks


def _costs(
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    strong: Evaluator,
    dataset: Dataset,
    sizes: ReportConfig,
) -> dict[str, float]:
    """About what each phase of `measure` costs, in forward passes."""
    costs = {}
    for kind, group in groups.items():
        costs[kind] = sum(evaluator.costs(dataset, len(group)).values())
        if sizes.sra_samples:
            few = min(len(group), sizes.sra_samples)
            costs[f"{kind}, SRA"] = sum(strong.costs(dataset, few).values())
    return costs


def summary_of(
    networks: list[dict[str, Any]],
    groups: Mapping[str, Population],
    evaluator: Evaluator,
    dataset: Dataset,
    sizes: ReportConfig,
) -> dict[str, Any]:
    """What results.json says of the networks of each kind, and of how they were measured."""
    images, labels = dataset.test.first(DISAGREEMENT_IMAGES)
    differ = {
        kind: pairwise_differences(group, images, labels)
        for kind, group in groups.items()
        if len(group) > 1
    }
    sra = None
    if sizes.sra_samples:
        sra = {"images": min(len(dataset.test), sizes.sra_images), "name": "standard"}
    return {
        "version": __version__,
        "attack": evaluator.describe(dataset),
        "sra": sra,
        "dataset": dataset.name,
        "test_images": len(dataset.test),
        "networks": networks,
        "summary": {
            kind: summarise([row for row in networks if row["kind"] == kind])
            for kind in dict.fromkeys(row["kind"] for row in networks)
        },
        "disagreement": {kind: own["disagreement"] for kind, own in differ.items()},
        "error_overlap": {kind: own["error_overlap"] for kind, own in differ.items()},
    }


def training_taus(folder: Path) -> dict[str, float]:
    """How well V ranked what it was shown over the whole training: Kendall's tau by measure.

    Between the means that were measured and those that it estimated, from measurement to
    measurement.
    """
    path = folder / METRICS
    lines = path.read_bytes().splitlines() if path.exists() else []
    steps = [step for step in map(_logged, lines) if step is not None]
    taus = {}
    for measure in MEASURES:
        names = f"estimated/{measure.name}", f"measured/{measure.name}"
        rows = [[step.get(name) for name in names] for step in steps]
        pairs = [row for row in rows if all(isinstance(value, float) for value in row)]
        tau = kendall_tau(*zip(*pairs, strict=True)) if len(pairs) > 1 else None
        if tau is not None:
            taus[measure.name] = tau
    return taus


def _logged(line: bytes) -> dict[str, Any] | None:
    """What a line of metrics.jsonl holds; None for a damaged one."""
    try:
        step = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return step if isinstance(step, dict) else None


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
