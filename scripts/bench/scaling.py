"""What a training step costs on several ranks: its terms measured here, their sum told for more.

A step of P networks of D weights on N ranks takes about so many seconds:

    generator + value + ceil(P / N) * network + bytes / rate + calls * latency

(N - 1) * ceil(P / N) * row bytes arrive at each rank, a row being what is found of a network: its
gradient, 4 D, and what the value network sees. docs/scaling.md says what each term supposes. A call
measures on the ranks that it is started on, and keeps what it finds. The sum takes its terms from
one rank, and rate and latency from the most ranks measured.

    python -m scripts.bench.scaling
    torchrun --nproc-per-node 2 -m scripts.bench.scaling
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hypergen import data
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.models.bundle import ModelBundle, as_shapes
from hypergen.runtime import crew, exchange
from hypergen.runtime.ranks import joined, place
from hypergen.training.trainer import Trainer
from scripts.common import (
    RESULTS,
    cached_json,
    device,
    ensure_same_settings,
    machine,
    now,
    publish,
    run,
    spent,
)
from targets import WeightLayout

WARM_UP = 2
"""Steps before the clock runs."""
SMALL, LARGE = 1, 2**20
"""Numbers of a rank in an exchange that shows the latency, and in one that shows the rate."""
TRAINED, MADE = 4, 5
"""Numbers kept for each trained number (itself, gradient, two moments), and for each weight that is
generated (the prior's part, the head's part, their sum, the gradient of some ranks and of all)."""


@dataclass(frozen=True)
class ScalingConfig:
    """What is timed."""

    quick: bool = False
    """two networks, 8 images, one step: to see it work"""
    dataset: str = "mnist"
    """images"""
    target: str = "small-lenet5"
    """architecture"""
    objective: str = "value"
    """of the generator"""
    population: int = 16
    """P, networks of a step on all ranks together"""
    batch_size: int = 64
    """B, images of each network"""
    steps: int = 16
    """steps timed, of which the median counts"""
    ranks: tuple[int, ...] = (1, 2, 8, 64)
    """numbers of ranks that the sum is told for"""
    work: Path = Path("runs/bench-scaling")
    """folder of what is found on each number of ranks"""
    out: Path = RESULTS / "bench_scaling.json"
    """the figures as JSON"""

    @property
    def training(self) -> TrainConfig:
        """The settings of the run whose steps are timed; nothing is checked in these."""
        return TrainConfig.of(
            dataset=self.dataset,
            target=self.target,
            objective=self.objective,
            population=self.population,
            batch_size=self.batch_size,
            steps=1000,
            max_robustness_gap=1.0,
        )


QUICK = ScalingConfig(
    quick=True, dataset="digits", target="mlp", population=2, batch_size=8, steps=1
)


class Clock:
    """Adds up the seconds that functions take, by names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any) -> Any:
            begun = spent()
            found = function(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + spent() - begun
            return found

        return timed


def stepped(dataset: Dataset, config: TrainConfig, steps: int) -> dict[str, float]:
    """Median seconds of a step and of its terms; every rank takes part."""
    trainer, clock = Trainer(config, dataset, dataset.device), Clock()
    fitter = trainer.value_fitter
    for name, owner, method in (
        ("generator", trainer, "generate"),
        ("generator", trainer, "descend"),
        ("value", fitter, "take_steps"),
    ):
        setattr(owner, method, clock.of(name, getattr(owner, method)))
    rows = []
    for _ in range(WARM_UP + steps):
        clock.seconds = {}
        begun = spent()
        trainer.take_step()
        rows.append(clock.seconds | {"step": spent() - begun})
    rows = [{"value": 0.0} | row for row in rows[WARM_UP:]]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def exchanged(dataset: Dataset, numbers: int, repeats: int) -> float:
    """Least seconds, on the clock, in which every rank gets so many numbers of each."""
    own = torch.zeros(1, numbers, device=dataset.device)
    seconds = []
    for _ in range(repeats):
        begun = now()
        exchange.gathered(own, place().count)
        seconds.append(now() - begun)
    return min(seconds)


def together(function: Callable[..., Any], dataset: Dataset, *arguments: Any) -> Any:
    """What the function finds here, while all other ranks call it too."""
    with crew.called(function, *arguments):
        return function(dataset, *arguments)


def measured(config: ScalingConfig, dataset: Dataset) -> dict[str, Any]:
    """All that is measured on the ranks that there are."""
    found = together(stepped, dataset, config.training, config.steps)
    count = place().count
    if count > 1:
        latency = together(exchanged, dataset, SMALL, 20)
        seconds = together(exchanged, dataset, LARGE, 5) - latency
        rate = (count - 1) * 4 * LARGE / max(seconds, 1e-9)
        found |= {"latency": latency, "rate": rate}
    return {"ranks": count, **found}


def sizes(config: ScalingConfig, dataset: Dataset) -> dict[str, int]:
    """Numbers and bytes that follow from the settings alone; nothing is trained."""
    training, info = config.training, dataset.info
    models = as_shapes(lambda: ModelBundle.fresh(training, info)) or ModelBundle.fresh(
        training, info
    )
    trained = sum(each.numel() for each in models.generator.parameters() if each.requires_grad)
    kept = sum(each.numel() for each in models.ema.buffers())
    kept += sum(each.numel() for each in models.ema.parameters())
    fixed = sum(each.numel() for each in models.generator.buffers())
    weights, measures = WeightLayout.of(models.target).size, len(training.objective.specs)
    return {
        "weights": weights,
        "trained": trained,
        "row": 4 * (weights + 1 + 2 * measures * config.batch_size) + 8 * measures,
        "generator_bytes": 4 * (TRAINED * trained + kept + fixed),
        "made_bytes": 4 * MADE * weights * config.population,
    }


def told(config: ScalingConfig, ranks: int, terms: dict[str, Any], size: dict[str, int]) -> Any:
    """What a step on so many ranks takes: seconds, and bytes that arrive at a rank."""
    most = math.ceil(config.population / ranks)
    received = (ranks - 1) * most * size["row"]
    network = (terms["step"] - terms["generator"] - terms["value"]) / config.population
    seconds = terms["generator"] + terms["value"] + most * network
    if ranks > 1:
        calls = 3 + 2 * (terms["value"] > 0)
        seconds += received / terms["rate"] + calls * terms["latency"]
    reduced = 2 * (ranks - 1) * 4 * size["trained"] // ranks
    return {"ranks": ranks, "seconds": seconds, "bytes": received, "bytes_all_reduce": reduced}


def show(found: list[dict[str, Any]], rows: list[dict[str, Any]], size: dict[str, int]) -> None:
    """Prints the table."""
    by_count = {each["ranks"]: each["step"] for each in found}
    print(f"\n{'ranks':>6}{'measured':>12}{'told':>12}{'speed':>8}{'MB received':>14}")
    for row in rows:
        here = by_count.get(row["ranks"])
        cell = "-" if here is None else f"{here:.4g} s"
        speed = rows[0]["seconds"] / row["seconds"]
        line = f"{row['ranks']:>6}{cell:>12}{row['seconds']:>10.4g} s{speed:>8.2f}"
        print(f"{line}{row['bytes'] / 1e6:>14.2f}")
    whole = (size["generator_bytes"] + size["made_bytes"]) / 1e9
    print(f"each rank keeps {whole:.3g} GB of the generator, its average and what it makes")


def main(config: ScalingConfig) -> None:
    """Measures on these ranks, and tells the sum where figures of one rank are there."""
    torch.set_num_threads(1)  # as torchrun gives each rank
    with joined() as here:
        dataset = data.load(config.dataset, device=device())
        if here.rank:
            crew.serve(dataset)
            return
        try:
            settings = ensure_same_settings(config.work, config, timed_on=machine())
            path = config.work / f"ranks-{here.count}.json"
            print(cached_json(path, partial(measured, config, dataset)))
        finally:
            crew.dismiss()
        tell(config, dataset, settings)


def tell(config: ScalingConfig, dataset: Dataset, settings: dict[str, Any]) -> None:
    """Prints and writes the figures of all numbers of ranks that have been measured."""
    found = [cached_json(path, dict) for path in sorted(config.work.glob("ranks-*.json"))]
    found.sort(key=lambda each: each["ranks"])
    if found[0]["ranks"] != 1:
        print("measure one rank too, which the terms are of: without torchrun")
        return
    size = sizes(config, dataset)
    talked = {name: found[-1][name] for name in ("rate", "latency") if len(found) > 1}
    known = [count for count in config.ranks if count == 1 or talked]
    rows = [told(config, count, found[0] | talked, size) for count in known]
    show(found, rows, size)
    publish(config.out, settings, {"measured": found, "told": rows, "sizes": size})


if __name__ == "__main__":
    run(main, ScalingConfig, __doc__, QUICK)
