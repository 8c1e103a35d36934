"""When does training fail? Seeds x objective x value network x start in one table.

Every way is run with several seeds on digits, `direct` and `value` from scratch with ten. A run has
succeeded when its samples are accurate and, under standard robust accuracy (SRA), more robust than
an ordinarily trained network; what a failed one ended as is said beside it. A killed run of this
script continues where it was.

    python -m scripts.convergence
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from attacks import AttackError
from hypergen import data
from hypergen.baseline import BaselineConfig
from hypergen.config import TrainConfig
from hypergen.errors import RunError
from hypergen.evaluate import Judge
from hypergen.train import Training
from hypergen.weights_file import load_network
from scripts.cells import RESULTS, cell, chosen, claim, kept, publish, run, trained
from targets import Population

CPU = torch.device("cpu")
FIGURES = ("accuracy", "pgd", "sra")
ACCURATE = 0.95
"""Mean accuracy from which samples count as accurate."""
MORE_ROBUST = 0.2
"""By how much their mean SRA must be above that of ordinary training."""


@dataclass(frozen=True)
class Way:
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


WAYS = (
    Way("direct", often=True),
    Way("direct", from_base=True),
    Way("value", often=True),
    Way("value", from_base=True),
    Way("hybrid"),
    Way("value", "statistics", from_base=True),
    Way("value", "mlp", from_base=True),
)


@dataclass(frozen=True)
class ConvergenceConfig:
    """What is run, how often, and how it is judged."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=400, population=4))
    """settings shared by all runs"""
    seeds: int = 10
    """of `direct` and `value` from scratch"""
    few: int = 3
    """of the other ways"""
    samples: int = 4
    """networks drawn of each run"""
    images: int = 50
    """test images for SRA; accuracy is over all"""
    only: tuple[str, ...] = ()
    """names of the ways to run now, beside those run before; default: all"""
    work: Path = Path("runs/convergence")
    """folder of the figures of each run"""
    out: Path = RESULTS / "convergence.json"
    """the table as JSON"""


def ordinary(config: ConvergenceConfig, seed: int, dataset: data.Dataset) -> Path:
    """The ordinarily trained network of a seed, made or found."""
    path = config.work / f"standard-{seed}.safetensors"
    recipe = BaselineConfig(
        method="standard",
        dataset=config.train.dataset,
        target=config.train.target,
        activation=config.train.activation,
        seed=seed,
    )
    trained(path, recipe, dataset, CPU)
    return path


def judged(config: ConvergenceConfig, population: Population, dataset: data.Dataset) -> Any:
    """A row of figures a network."""
    judge = Judge(config.train.threat, "standard", restarts=1, images=config.images)
    return judge.judge(population, dataset, "judging")


def outcome(
    config: ConvergenceConfig, way: Way, seed: int, dataset: data.Dataset
) -> dict[str, float]:
    """Mean accuracy, PGD-50 and SRA of the samples of one run; `diverged` when it ended in NaN."""
    base = ordinary(config, seed, dataset) if way.from_base else None
    settings = replace(
        config.train,
        seed=seed,
        objective=way.objective,
        value_network=way.value_network,
        base=None if base is None else str(base),
    )
    training = Training(settings, dataset, CPU, base)
    try:
        if base is not None:
            training.fit_value_around_start()
        while training.step < settings.steps:
            training.advance()
        rows = judged(config, training.sample(config.samples, seed + 1), dataset)
    except (RunError, AttackError):
        return {"diverged": training.step}
    return {name: statistics.fmean(row[name] for row in rows) for name in FIGURES}


def verdict(found: dict[str, float], floor: float) -> str:
    """ "succeeded", or what a run failed by; `floor`: SRA of ordinary training."""
    if "diverged" in found:
        return "NaN"
    if found["accuracy"] < ACCURATE:
        return "at chance" if found["accuracy"] < 0.15 else "inaccurate"
    return "succeeded" if found["sra"] >= floor + MORE_ROBUST else "not robust"


def summary(runs: Sequence[dict[str, float]], floor: float) -> dict[str, Any]:
    """Of the runs of one way."""
    verdicts = [verdict(found, floor) for found in runs]
    told = {
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
        **told,
    }


def main(config: ConvergenceConfig) -> None:
    """Runs every way with every seed, prints the table and writes it."""
    settings = claim(config.work, config)
    dataset = data.load(config.train.dataset)

    def ordinary_sra() -> float:
        network = load_network(ordinary(config, config.train.seed, dataset))
        return judged(config, Population.of([network]), dataset)[0]["sra"]

    floor = kept(config.work / "ordinary.json", ordinary_sra)
    ways = {way.name: way for way in WAYS}
    table: dict[str, Any] = {}

    def cells(name: str) -> list[Path]:
        seeds = config.seeds if ways[name].often else config.few
        return [cell(config.work, f"{name} {seed}") for seed in range(seeds)]

    for name in chosen(config.only, ways, cells):
        runs = [
            kept(path, lambda w=ways[name], s=seed: outcome(config, w, s, dataset))
            for seed, path in enumerate(cells(name))
        ]
        table[name] = {**summary(runs, floor), "each": runs}
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
    bar = {"accuracy": ACCURATE, "sra": floor + MORE_ROBUST, "ordinary_sra": floor}
    publish(config.out, settings, {"bar": bar, "ways": table})


if __name__ == "__main__":
    run(main, ConvergenceConfig, __doc__)
