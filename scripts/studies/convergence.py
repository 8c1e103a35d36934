"""When does training fail? Seeds x objective x value network x start in one table.

Every variant is run with several seeds on digits, `direct` and `value` from scratch with ten. A run
has succeeded when its samples are accurate and, under standard robust accuracy (SRA), more robust
than an ordinarily trained network; what a failed one ended as is said beside it. A killed run of
this script continues where it was.

    python -m scripts.studies.convergence
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attacks import AttackError
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments.base import direct_recipe
from hypergen.storage.weights import load_network
from hypergen.training.trainer import Trainer
from scripts.common import (
    RESULTS,
    cached_json,
    cell,
    chosen,
    ensure_same_settings,
    load,
    publish,
    run,
    trained,
)
from targets import Population

CPU = torch.device("cpu")
FIGURES = ("accuracy", "pgd", "sra")
ACCURATE = 0.95
"""Mean accuracy from which samples count as accurate."""
MORE_ROBUST = 0.2
"""By how much their mean SRA must be above that of ordinary training."""


@dataclass(frozen=True)
class Variant:
    """One cell of the table."""

    objective: str
    value_network: str = "set"
    from_base: bool = False
    often: bool = False
    """whether with `seeds` seeds or with `few`"""

    @property
    def name(self) -> str:
        """What the table calls it."""
        value = "" if self.objective == "direct" else f", {self.value_network}"
        return f"{self.objective}{value}, {'base' if self.from_base else 'scratch'}"


VARIANTS = (
    Variant("direct", often=True),
    Variant("direct", from_base=True),
    Variant("value", often=True),
    Variant("value", from_base=True),
    Variant("hybrid"),
    Variant("value", "statistics", from_base=True),
    Variant("value", "mlp", from_base=True),
)


@dataclass(frozen=True)
class ConvergenceConfig:
    """What is run, how often, and how it is judged."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig.of(steps=400, population=4))
    """settings shared by all runs"""
    seeds: int = 10
    """of `direct` and `value` from scratch"""
    few: int = 3
    """of the other variants"""
    samples: int = 4
    """networks drawn of each run"""
    images: int = 50
    """test images for SRA; accuracy is over all"""
    only: tuple[str, ...] = ()
    """names of the variants to run now, beside those run before; default: all"""
    work: Path = Path("runs/convergence")
    """folder of the figures of each run"""
    out: Path = RESULTS / "convergence.json"
    """the table as JSON"""


def ordinary(config: ConvergenceConfig, seed: int, dataset: Dataset) -> Path:
    """The ordinarily trained network of a seed, made or found."""
    path = config.work / f"standard-{seed}.safetensors"
    trained(path, direct_recipe(config.train, "standard", seed), dataset, CPU)
    return path


def judged(
    config: ConvergenceConfig, population: Population, dataset: Dataset
) -> list[dict[str, Any]]:
    """A row of figures a network."""
    evaluator = Evaluator(config.train.threat, "standard", restarts=1, images=config.images)
    return evaluator.evaluate(population, dataset)


def outcome(
    config: ConvergenceConfig, variant: Variant, seed: int, dataset: Dataset
) -> dict[str, float]:
    """Mean accuracy, PGD-50 and SRA of the samples of one run; `diverged` when it ended in NaN."""
    base = ordinary(config, seed, dataset) if variant.from_base else None
    settings = config.train.replace(
        seed=seed, objective=variant.objective, value_network=variant.value_network, base=base
    )
    network = None if base is None else load_network(base)
    trainer = Trainer(settings, dataset, CPU, network)
    try:
        if base is not None:
            trainer.pretrain_value()
        while trainer.step < trainer.config.optimisation.length:
            trainer.advance()
        rows = judged(config, trainer.sample(config.samples, seed + 1), dataset)
    except (RunError, AttackError):
        return {"diverged": trainer.step}
    return {name: statistics.fmean(row[name] for row in rows) for name in FIGURES}


def verdict(found: dict[str, float], floor: float) -> str:
    """ "succeeded", or what a run failed by; `floor`: SRA of ordinary training."""
    if "diverged" in found:
        return "NaN"
    if found["accuracy"] < ACCURATE:
        return "at chance" if found["accuracy"] < 0.15 else "inaccurate"
    return "succeeded" if found["sra"] >= floor + MORE_ROBUST else "not robust"


def summary(runs: Sequence[dict[str, float]], floor: float) -> dict[str, Any]:
    """Of the runs of one variant."""
    verdicts = [verdict(found, floor) for found in runs]
    means = {
        name: {
            "mean": statistics.fmean(run[name] for run in runs if name in run),
            "min": min(run[name] for run in runs if name in run),
        }
        for name in FIGURES
        if any(name in run for run in runs)
    }
    return {
        "runs": len(runs),
        "succeeded": verdicts.count("succeeded"),
        "failures": [v for v in verdicts if v != "succeeded"],
        **means,
    }


def main(config: ConvergenceConfig) -> None:
    """Runs every variant with every seed, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, CPU)

    def ordinary_figures() -> dict[str, Any]:
        network = load_network(ordinary(config, config.train.optimisation.seed, dataset))
        return judged(config, Population.of([network]), dataset)[0]

    floor = cached_json(config.work / "ordinary.json", ordinary_figures)["sra"]
    variants = {variant.name: variant for variant in VARIANTS}
    table: dict[str, Any] = {}

    def cells(name: str) -> list[Path]:
        seeds = config.seeds if variants[name].often else config.few
        return [cell(config.work, f"{name} {seed}") for seed in range(seeds)]

    for name in chosen(config.only, variants, cells):
        runs = [
            cached_json(path, lambda v=variants[name], s=seed: outcome(config, v, s, dataset))
            for seed, path in enumerate(cells(name))
        ]
        table[name] = {**summary(runs, floor), "each": runs}
    show(table)
    bar = {"accuracy": ACCURATE, "sra": floor + MORE_ROBUST, "ordinary_sra": floor}
    publish(config.out, settings, {"bar": bar, "ways": table})


def show(table: dict[str, Any]) -> None:
    """Prints the table."""
    print(
        f"\n{'':<26}{'succeeded':>10}{'accuracy':>10}{'least':>8}{'SRA':>8}{'least':>8}  failures"
    )
    for name, row in table.items():
        shown = "".join(
            f"{100 * row[figure][of]:>{width}.1f}" if figure in row else f"{'-':>{width}}"
            for figure, of, width in (
                *(("accuracy", "mean", 10), ("accuracy", "min", 8)),
                *(("sra", "mean", 8), ("sra", "min", 8)),
            )
        )
        share = f"{row['succeeded']} of {row['runs']}"
        print(f"{name:<26}{share:>10}{shown}  {', '.join(row['failures'])}")


if __name__ == "__main__":
    run(main, ConvergenceConfig, __doc__)
