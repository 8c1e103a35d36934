"""The end of a run: its samples beside directly trained networks, as a table and a picture."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergen.baseline import BaselineConfig, fresh_target
from hypergen.chance import seeded
from hypergen.config import BASE_METHODS, TrainConfig, require_at_least
from hypergen.data import Dataset
from hypergen.diversity import differences
from hypergen.evaluate import OUTSIDE, Judge, summarise
from hypergen.measure import named
from hypergen.picture import write_picture
from hypergen.sample import CALIBRATION_IMAGES, Sampler
from hypergen.scatter import scatter
from hypergen.tracking import write_text
from hypergen.train import BASE, direct_recipe
from hypergen.weights_file import load_network, read_network, save_network
from targets import Ensemble, Population

FBF_COUNT = 3
NOISY_COUNT = 2
APART = 2**20
"""Added to the run's seed for its samples, so that `hypergen sample` draws others."""
VOTERS = 10
"""How many of the samples vote together."""


@dataclass(frozen=True)
class ReportConfig:
    """How much is measured at the end of a run."""

    samples: int = 32
    """networks sampled, written and measured"""
    images: int = 1000
    """test images for PGD-50; accuracy is over all"""
    sra_samples: int = 4
    """of the samples, how many get standard robust accuracy; 0 for none"""
    sra_images: int = 100
    """test images for standard robust accuracy"""

    def __post_init__(self) -> None:
        require_at_least(self, ("samples", "images", "sra_images"), 1)
        require_at_least(self, ("sra_samples",), 0)


def report(
    folder: Path,
    sampler: Sampler,
    dataset: Dataset,
    sizes: ReportConfig,
    baselines: Mapping[Path, BaselineConfig],
) -> dict[str, Any]:
    """Measures the samples (and the baselines), writes samples/, results.json and the pictures.

    baselines: the files of directly trained networks, as `direct_recipes` has them, or none.

    Returns what results.json holds: attack, dataset, networks (each of a `kind`), summary by kind,
    disagreement, and how well the value network knew the samples.
    """
    config = sampler.config
    population, z, betas = sampler.draw(sizes.samples, seed=config.seed + APART)
    images = dataset.calibration_images(CALIBRATION_IMAGES).cpu()
    groups = {"sample": population, "start": starting_network(folder, config, images)}
    if baselines:
        direct = direct_networks(baselines)
        groups |= direct
        if "fbf" in direct:
            groups |= trivial_competitors(direct["fbf"], population, images, config.seed)
    device = population.theta.device
    judge = Judge(config.threat, "pgd", restarts=1, images=sizes.images, seed=config.seed)
    networks: list[dict[str, Any]] = []
    for kind, group in groups.items():
        group = group.to(device)
        rows = judge.judge(group, dataset, kind)
        if sizes.sra_samples:
            strong = replace(judge, attack="standard", images=sizes.sra_images)
            some = strong.judge(group[: sizes.sra_samples], dataset, kind)
            for row, measured in zip(rows, some, strict=False):
                row |= {"sra": measured["sra"], "after": measured["after"]}
        networks += [{"kind": kind, **row} for row in rows]
    for kind, count in (("sample", VOTERS), ("fbf", FBF_COUNT)):
        if kind in groups and len(groups[kind]) > 1:
            voters = Ensemble(groups[kind][:count].to(device))
            (row,) = judge.judge(voters, dataset, f"{kind} voting")
            networks.append({"kind": f"{len(voters.members)} {kind} voting", **row})

    own = [row for row in networks if row["kind"] == "sample"]
    estimates, _ = sampler.estimate(population, dataset)
    for row, estimate, sample_z, beta in zip(own, estimates.tolist(), z, betas, strict=True):
        row["estimated"] = named(estimate)
        row["z"], row["beta"] = sample_z.tolist(), float(beta)

    whole = dataset.test.first(10_000)
    apart = {
        kind: differences(group.to(device), *whole)
        for kind, group in groups.items()
        if len(group) > 1
    }
    attack, sra = judge.describe(dataset), None
    if sizes.sra_samples:
        sra = {"images": len(dataset.test.first(sizes.sra_images)[1]), "attack": "standard"}
    made = {
        "seed": config.seed + APART,
        "attack": attack | ({"sra_images": sra["images"]} if sra else {}),
    }
    samples = folder / "samples"
    paths = sampler.save(samples, population, z, betas, [row | made for row in own])
    for stale in {*samples.glob("sample-*.safetensors")} - {*paths}:  # of an earlier report
        stale.unlink()
    for row, path in zip(own, paths, strict=True):
        row["file"] = str(path.relative_to(folder))

    result = {
        "attack": attack,
        "sra": sra,
        "dataset": dataset.name,
        "seed": config.seed,
        "networks": networks,
        "summary": {
            kind: summarise([row for row in networks if row["kind"] == kind])
            for kind in dict.fromkeys(row["kind"] for row in networks)
        },
        "disagreement": {kind: found["disagreement"] for kind, found in apart.items()},
        "error_overlap": {kind: found["error_overlap"] for kind, found in apart.items()},
        "value_network": agreement(estimates.cpu(), own),
    }
    write_picture(folder / "scatter.png", scatter(networks, "pgd"))
    write_text(folder / "report.html", page(folder.name, text_table(result)))
    write_text(folder / "results.json", json.dumps(result, indent=1) + "\n")
    return result


def starting_network(folder: Path, config: TrainConfig, images: Tensor) -> Population:
    """Where theta0 began: the base, or the fresh initialisation of the run's seed.

    Batch-norm statistics of the latter are those of training images [N,C,H,W].
    """
    if config.base is None:
        with seeded(config.seed):
            fresh = fresh_target(config.target, config.activation, config.dataset)
        return Population.of([fresh]).recalibrate(images)
    return Population.of([load_network(folder / BASE)])


def direct_recipes(folder: Path, config: TrainConfig) -> dict[Path, BaselineConfig]:
    """How the files of one ordinary, three FBF and one PGD-trained network in `folder` are made.

    In l1, where FBF takes no step, it is left out. A base that was trained the same way is
    copied there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipes = {
        folder / f"{method}-{seed}.safetensors": direct_recipe(config, method, seed)
        for method, count in (("pgd", 1), ("fbf", FBF_COUNT), ("standard", 1))  # the longest first
        if method != "fbf" or config.norm != "l1"
        for seed in range(config.seed, config.seed + count)
    }
    if config.base in BASE_METHODS:
        path = folder / f"{config.base}-{config.seed}.safetensors"
        save_network(path, *read_network(folder.parent / BASE))
    return recipes


def direct_networks(files: Mapping[Path, BaselineConfig]) -> dict[str, Population]:
    """The directly trained networks by their method."""
    return {
        method: Population.of(
            load_network(path) for path, recipe in files.items() if recipe.method == method
        )
        for method in ("standard", "fbf", "pgd")
        if any(recipe.method == method for recipe in files.values())
    }


def trivial_competitors(
    fbf: Population, samples: Population, images: Tensor, seed: int
) -> dict[str, Population]:
    """What costs nothing: an FBF network with noise of the samples' size, and the FBF average.

    Batch-norm statistics are recalibrated on `images`. The noise has, tensor by tensor, the
    standard deviation that the samples have among themselves.
    """
    layout = samples.layout
    spread = samples.theta.std(0, correction=0).cpu()
    sizes = torch.cat(
        [
            spread[slot.start : slot.stop].square().mean().sqrt().expand(slot.stop - slot.start)
            for slot in layout.slots
        ]
    )
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(NOISY_COUNT, layout.size, generator=rng) * sizes
    copies = fbf.choose(torch.zeros(NOISY_COUNT, dtype=torch.long))
    return {
        "fbf + noise": copies.with_theta(copies.theta + noise).recalibrate(images),
        "fbf average": fbf[:1].with_theta(fbf.theta.mean(0, keepdim=True)).recalibrate(images),
    }


def agreement(estimates: Tensor, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of estimates [P,2] against what was measured on test images: mean error, R2, Kendall's tau.

    The error is absolute. Among nearly equal networks R2 falls far below 0, and tau is chance.
    """
    from scipy.stats import kendalltau  # here, for it takes a second that others need not spend

    result = {}
    for name, estimated in named(estimates.T).items():
        measured = torch.tensor([row[name] for row in rows])
        spread = (measured - measured.mean()).square().sum()
        error = (measured - estimated).square().sum()
        tau = float("nan")
        if len(rows) > 1:
            tau = kendalltau(estimated, measured).statistic  # pyright: ignore
        result[name] = {
            "mean_error": float((measured - estimated).abs().mean()),
            "r2": float(1 - error / spread) if spread > 0 else None,
            "kendall_tau": float(tau) if tau == tau else None,  # NaN when all are equal
        }
    return result


def text_table(result: dict[str, Any]) -> str:
    """The summary: a line a kind of network."""
    lines = [f"{'':<14}{'nets':>5}{'accuracy':>16}{'PGD-50':>16}{'SRA':>16}{'disagree':>10}"]
    for kind, summary in result["summary"].items():
        cells = []
        for name in ("accuracy", "pgd", "sra"):
            figure = summary.get(name)
            if figure is None:
                cells.append("-")
            elif figure["count"] == 1:
                cells.append(f"{100 * figure['mean']:.1f}")
            else:
                cells.append(f"{100 * figure['mean']:.1f} +- {100 * figure['std']:.1f}")
        apart = result["disagreement"].get(kind)
        cells.append("-" if apart is None else f"{100 * apart:.2f}")
        lines.append(
            f"{kind:<14}{summary['count']:>5}"
            + "".join(f"{cell:>16}" for cell in cells[:3])
            + f"{cells[3]:>10}"
        )
    threat = result["attack"]["threat"]
    lines.append(
        f"% of {result['dataset']} test images, mean +- standard deviation over networks; "
        f"{threat['norm']}, epsilon {threat['epsilon']:.4g}; PGD-50 on {result['attack']['images']}"
    )
    if result["sra"]:
        lines[-1] += (
            f", standard robust accuracy (worst of APGD-CE, APGD-T, FAB-T, Square) on "
            f"{result['sra']['images']} and the first "
            f"{max(each['sra']['count'] for each in result['summary'].values() if 'sra' in each)} "
            "networks of a kind"
        )
    outside = {
        kind: each["outside_dictionary"]["mean"]
        for kind, each in result["summary"].items()
        if "outside_dictionary" in each
    }
    if outside:
        shown = ", ".join(f"{kind} {100 * share:.2f}" for kind, share in outside.items())
        lines.append(f"{OUTSIDE}: {shown}")
    for name, figures in result["value_network"].items():
        shown = [f"off by {100 * figures['mean_error']:.1f} points on average"] + [
            f"{label} {figures[key]:.2f}"
            for key, label in (("r2", "R2"), ("kendall_tau", "Kendall tau"))
            if figures[key] is not None
        ]
        lines.append(f"value network on these samples, {name}: {', '.join(shown)}")
    return "\n".join(lines)


def page(name: str, table: str) -> str:
    """report.html: the table and the picture."""
    return (
        "<!doctype html><meta charset=utf-8>"
        f"<title>{html.escape(name)}</title><h1>{html.escape(name)}</h1>"
        f"<pre>{html.escape(table)}</pre><img src=scatter.png width=720>\n"
    )
