"""What is different about generated networks: every analysis of samples beside baselines.

A run trains its generator and its baselines, as `hypergen train` does; further networks are trained
directly, so that each kind has several. `hypergen analyze` looks at all of them. Told are the mean
of each figure over the networks of a kind, and by how much it lies above that of the samples, with
the 95 % interval that so few networks leave (Welch).

    HYPERGEN_DATA=... python -m scripts.studies.geometry
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypergen.config import TrainConfig
from hypergen.experiments.analyze import BASELINES, AnalyzeConfig, analyze_files
from hypergen.experiments.base import direct_recipe
from hypergen.experiments.run import run as train
from hypergen.experiments.run_folder import ReportConfig, ReportSizes, RunSettings
from hypergen.report.analysis import analysis_table
from hypergen.report.verdict import networks_error
from hypergen.runtime.progress import ProgressBar
from hypergen.storage.folders import CONFIG
from hypergen.training.direct_config import Method
from scripts.common import RESULTS, device, ensure_same_settings, load, publish, run, trained

METHODS: tuple[Method, ...] = "standard", "fbf", "pgd"


@dataclass(frozen=True)
class GeometryConfig:
    """What is trained and looked at."""

    quick: bool = False
    """steps and images cut down to minutes on two cores"""
    train: TrainConfig = TrainConfig.of(dataset="mnist")
    """of the generator"""
    report: ReportSizes = ReportSizes()
    """what is measured of the run"""
    direct: int = 3
    """networks trained directly by each method"""
    analysis: AnalyzeConfig = AnalyzeConfig()
    """what is looked at"""
    work: Path = Path("runs/geometry")
    """folder of the run, its baselines and the pictures"""
    out: Path = RESULTS / "geometry.json"
    """the figures as JSON"""


QUICK = GeometryConfig(
    quick=True,
    train=TrainConfig.of(dataset="digits", image_size=8, target="mlp", steps=50),
    report=ReportSizes(samples=3, images=20, sra_samples=0),
    direct=2,
    analysis=AnalyzeConfig(count=3, images=10, steps=5),
)


def difference(samples: Sequence[float], others: Sequence[float]) -> dict[str, float] | None:
    """By how much the others' mean lies above the samples': mean, low and high of 95 %.

    None unless both are two networks at least that differ.
    """
    if min(len(samples), len(others)) < 2 or len({*samples}) == len({*others}) == 1:
        return None
    apart = statistics.fmean(others) - statistics.fmean(samples)
    reach = networks_error(others, samples)
    return {"mean": apart, "low": apart - reach, "high": apart + reach}


def summed_up(found: dict[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    """Of an analysis each figure of each group: count, mean, std, and `above`, see `difference`."""
    figures: dict[str, Any] = {}
    for name in found["figures"]:
        values = {
            group: [
                row[name]
                for row in found["rows"]
                if row["group"] == group and row.get(name) is not None
            ]
            for group in groups
        }
        figures[name] = {
            group: {
                "count": len(own),
                "mean": statistics.fmean(own),
                "std": statistics.stdev(own) if len(own) > 1 else None,
                "above": None if group == groups[0] else difference(values[groups[0]], own),
            }
            for group, own in values.items()
            if own
        }
    return {"title": found["title"], "means": found["figures"], "figures": figures}


def main(config: GeometryConfig) -> None:
    """Trains, looks, prints the tables and writes the figures."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    folder = config.work / "run"
    sizes = ReportConfig(**vars(config.report))
    asked = RunSettings(config.train, dataset.info, sizes)
    with ProgressBar("geometry") as bar:
        phases = bar.split({"run": 20.0, "baselines": 20.0, "analyses": 6.0})
        train(asked, dataset, folder, device(), (folder / CONFIG).exists(), phases["run"])
        whole = RunSettings.load(folder).config
        first = whole.optimisation.seed
        for method in METHODS:
            for seed in range(first, first + config.direct):
                path = folder / BASELINES / f"{method}-{seed}.safetensors"
                trained(path, direct_recipe(whole, method, seed), dataset, device())
        phases["baselines"].finish()
        result = analyze_files(
            [folder], config.analysis, config.work, device(), None, phases["analyses"], dataset
        )
    groups = [group["name"] for group in result["groups"]]
    for found in result["analyses"].values():
        print(f"{analysis_table(found, result['groups'])}\n")
    summary = {name: summed_up(found, groups) for name, found in result["analyses"].items()}
    publish(config.out, settings, {"attack": result["attack"], "analyses": summary})


if __name__ == "__main__":
    run(main, GeometryConfig, __doc__, QUICK)
