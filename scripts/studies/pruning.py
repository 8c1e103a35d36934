"""Does pruning find the same front of a sweep, and in how much of the time?

The same sweep runs with and without it. By default settings are drawn at random, so that both try
the same ones, and a trial that was pruned can be compared with what came of it when it was not: it
is lost if it is on the front then. Fronts are chosen on validation images and judged on test
images, as every sweep does. Steps are told beside the time, since short trainings take most of
their time to begin.

    HYPERGEN_DATA=... python -m scripts.studies.pruning
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.pruning import PrunerName
from hypergen.experiments.run_folder import ReportSizes, read_metrics
from hypergen.experiments.samplers import SamplerName
from hypergen.experiments.sweep import run_sweep
from hypergen.experiments.sweep_config import SweepConfig
from hypergen.experiments.trials import Machine
from hypergen.report.tables import MISSING, Table, percent
from hypergen.training.length import with_steps
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    device,
    ensure_same_settings,
    load,
    publish,
    run,
)

PRUNERS: tuple[PrunerName, ...] = get_args(PrunerName)
TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.2)


@dataclass(frozen=True)
class PruningConfig:
    """What is swept, and how often."""

    quick: bool = False
    """steps, trials and images cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of each trial"""
    vary: tuple[str, ...] = ("beta=0:1", "learning_rate=0.00003:0.1:log")
    """what is varied, as `hypergen sweep` takes it"""
    trials: int = 24
    """in each sweep, pruned ones included"""
    workers: int = 1
    """trials at work at once"""
    sampler: SamplerName = "random"
    """what chooses settings; any but random tries others once a trial was pruned"""
    report: ReportSizes = ReportSizes(samples=8, sra_samples=2, sra_images=50)
    """what is measured of each trial"""
    seeds: int = 1
    """sweeps with each pruner"""
    work: Path = Path("runs/pruning")
    """folder of the sweeps and of the figures"""
    out: Path = RESULTS / "pruning.json"
    """the figures as JSON"""


QUICK = PruningConfig(
    quick=True,
    train=TRAIN.replace(dataset="digits", epsilon=None, steps=300),
    trials=12,
    report=ReportSizes(samples=4, images=100, sra_samples=1, sra_images=20),
)


def swept(config: PruningConfig, dataset: Dataset, pruner: PrunerName, seed: int) -> dict[str, Any]:
    """What a sweep found and took; `seconds` is None where an earlier call had begun it."""
    train = with_steps(config.train.replace(seed=seed), dataset)
    options = SweepConfig(
        trials=config.trials,
        workers=config.workers,
        vary=config.vary,
        sampler=config.sampler,
        pruner=pruner,
    )
    folder = config.work / f"sweep-{pruner}-{seed}"
    is_new, start = not folder.exists(), time.perf_counter()
    machine = Machine(device().type, None)
    result = run_sweep(train, dataset, folder, options, machine, config.report)
    seconds = time.perf_counter() - start
    steps = sum(len(read_metrics(run)) for run in folder.glob("trial-*"))
    return {
        "seconds": seconds if is_new else None,
        "steps": steps / (config.trials * train.optimisation.length),
        "pruned": len(result["pruned"]),
        "hypervolume": {
            "val": result["hypervolume"]["history"][-1],
            "test": result["hypervolume"]["test"],
        },
        "trials": [*result["trials"], *result["pruned"]],
        "varied": result["varied"],
    }


def lost(whole: Mapping[str, Any], pruned: Mapping[str, Any]) -> int:
    """How many trials on the front of a sweep without pruning the one with pruning has pruned."""

    def settings(found: Mapping[str, Any], kind: str) -> list[tuple[Any, ...]]:
        rows = [row for row in found["trials"] if row["kind"] == kind]
        return [tuple(row[name] for name in found["varied"]) for row in rows]

    gone = settings(pruned, "pruned")
    return sum(each in gone for each in settings(whole, "front"))


def table(found: Mapping[str, Sequence[Mapping[str, Any]]], trials: int) -> Table:
    """A row a pruner: means over its sweeps."""
    rows = []
    for pruner, sweeps in found.items():
        times = [each["seconds"] for each in sweeps]
        minutes = MISSING if None in times else f"{statistics.fmean(times) / 60:.1f}"
        volumes = [
            percent(statistics.fmean(each["hypervolume"][split] for each in sweeps))
            for split in ("val", "test")
        ]
        numbers = [
            f"{statistics.fmean(values):.1f}"
            for values in (
                [each["pruned"] for each in sweeps],
                [*map(lost, found["none"], sweeps)],
            )
        ]
        steps = percent(statistics.fmean(each["steps"] for each in sweeps), 0)
        rows.append((pruner, *numbers, steps, minutes, *volumes))
    notes = [
        f"means over sweeps of {trials} trials; lost: pruned, and on the front of the sweep that "
        "prunes nothing",
        "steps: % of those of all trials; hypervolume of the front, % of all that is better than "
        "guessing",
    ]
    head = "pruned", "lost", "steps", "minutes", "hypervolume (val)", "hypervolume (test)"
    return Table(("pruner", *head), rows, notes)


def main(config: PruningConfig) -> None:
    """Runs the sweeps, prints the table and writes the figures."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    found = {
        pruner: [
            cached_json(
                cell(config.work, f"{pruner}-{seed}"),
                partial(swept, config, dataset, pruner, seed),
            )
            for seed in range(config.seeds)
        ]
        for pruner in PRUNERS
    }
    print(table(found, config.trials))
    publish(config.out, settings, {"sweeps": found})


if __name__ == "__main__":
    run(main, PruningConfig, __doc__, QUICK)
