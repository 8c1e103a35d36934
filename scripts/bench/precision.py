"""Which networks train faster in bf16 than in float32, and does their loss fall alike?

For every target a step of FBF training and a step of its generator (`direct`) are timed in float32
and in bf16, in turns, so that whatever else the machine does meets both. Beside the step of FBF
stands that of a plain loop of PyTorch in bf16: augmented images, one attack step from a random
start, SGD. Times are of the process, on one core; figures are medians of the turns, a ratio is the
time in float32 over that in bf16. Then a few networks are trained for some hundred steps in both,
with several seeds, and the mean losses of the last quarter stand side by side. Needs a CPU with
instructions for bf16.

    HYPERGEN_DATA=... python -m scripts.bench.precision
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.config import DataConfig, TrainConfig
from hypergen.data import Dataset
from hypergen.models.bundle import fresh_target
from hypergen.report.tables import Table
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer
from scripts.common import RESULTS, device, load, publish, run, settings_of

EPSILON = 8 / 255
Bits = Literal["float32", "bf16"]
PAIR: tuple[Bits, Bits] = ("float32", "bf16")
NEVER = 10**6
PLAIN = "plain loop, bf16"


@dataclass(frozen=True)
class BenchConfig:
    """What is timed, and how often."""

    dataset: str = "cifar10"
    """images"""
    targets: tuple[str, ...] = (
        "resnet20 relu",
        "resnet20 swish",
        "vgg relu",
        "light-cnn relu",
        "small-lenet5 relu",
    )
    """each a target and its activation"""
    turns: int = 5
    """of each way, after one that is not timed"""
    curves: tuple[str, ...] = ("resnet20 relu", "resnet20 swish")
    """those of which a loss curve is compared"""
    curve_steps: int = 100
    """steps of such a curve"""
    curve_seeds: int = 3
    """seeds of each"""
    out: Path = RESULTS / "bench_precision.json"
    """the figures as JSON"""


def main(config: BenchConfig) -> None:
    """Times, trains, prints and writes."""
    torch.set_num_threads(1)
    dataset = load(DataConfig(config.dataset), device())
    timed = {name: times(config, dataset, *name.split()) for name in config.targets}
    losses = {name: curves(config, dataset, *name.split()) for name in config.curves}
    print(time_table(timed), loss_table(losses), sep="\n\n")
    publish(config.out, settings_of(config), {"milliseconds": timed, "last_losses": losses})


def times(config: BenchConfig, dataset: Dataset, target: str, activation: str) -> dict[str, Any]:
    """Milliseconds of each way's step, by its name."""
    ways: dict[str, Callable[[], object]] = {PLAIN: plain(dataset, target, activation)}
    for bits in PAIR:
        ways[f"fbf, {bits}"] = fbf(config, dataset, target, activation, bits)
        ways[f"generator, {bits}"] = generator(config, dataset, target, activation, bits)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(config.turns + 1):
        for name, step in ways.items():
            begun = time.process_time()
            step()
            if turn:
                taken[name].append(1000 * (time.process_time() - begun))
    return {name: round(statistics.median(each), 1) for name, each in taken.items()}


def fbf(
    config: BenchConfig, dataset: Dataset, target: str, activation: str, bits: Bits, seed: int = 0
) -> Callable[[], Tensor]:
    """A step of FBF training as `hypergen baseline` takes it."""
    trainer = DirectTrainer(direct(config, target, activation, bits, seed), dataset, device())
    trainer.module.train()
    attack = trainer.plan.training_attack(1.0)
    batches = endless(trainer, dataset)
    return lambda: trainer.take_step(*next(batches), attack, 0.05)


def direct(
    config: BenchConfig, target: str, activation: str, bits: Bits, seed: int
) -> BaselineConfig:
    """The settings of such a training."""
    return BaselineConfig.of(
        dataset=config.dataset,
        target=target,
        activation=activation,
        epsilon=EPSILON,
        precision=bits,
        seed=seed,
    )


def endless(trainer: DirectTrainer, dataset: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the size that the training takes, epoch after epoch."""
    while True:
        yield from dataset.train.batches(trainer.plan.recipe.batch_size, trainer.rng)


def generator(
    config: BenchConfig, dataset: Dataset, target: str, activation: str, bits: Bits
) -> Callable[[], object]:
    """A step of a generator by `direct`, without the measurements in between."""
    settings = TrainConfig.of(
        dataset=config.dataset,
        target=target,
        activation=activation,
        epsilon=EPSILON,
        objective="direct",
        measure_every=NEVER,
        precision=bits,
    )
    trainer = Trainer(settings, dataset, device())
    trainer.step = 1  # the first step measures
    return trainer.take_step


def plain(dataset: Dataset, target: str, activation: str) -> Callable[[], Tensor]:
    """FBF's step for CIFAR-10 as its authors' train_fgsm.py has it, in bf16."""
    module: nn.Module = fresh_target(target, activation, dataset.info).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    rng = torch.Generator().manual_seed(0)
    alpha = 1.25 * EPSILON

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(module(images).float(), labels)

    def step() -> Tensor:
        images, labels = dataset.train.draw(128, rng)
        images = dataset.augmented(images, rng)
        delta = torch.zeros_like(images).uniform_(-EPSILON, EPSILON).requires_grad_()
        loss_of(images + delta, labels).backward()
        assert delta.grad is not None
        delta = (delta.detach() + alpha * delta.grad.sign()).clamp(-EPSILON, EPSILON)
        loss = loss_of((images + delta).clamp(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def curves(
    config: BenchConfig, dataset: Dataset, target: str, activation: str
) -> dict[str, list[float]]:
    """The mean loss of the last quarter of a curve in each of both, seed by seed."""
    found: dict[str, list[float]] = {bits: [] for bits in PAIR}
    for seed in range(config.curve_seeds):
        for bits in PAIR:
            step = fbf(config, dataset, target, activation, bits, seed)
            losses = [float(step()) for _ in range(config.curve_steps)]
            found[bits].append(statistics.mean(losses[-len(losses) // 4 :]))
    return found


def time_table(timed: dict[str, dict[str, float]]) -> Table:
    """What a step takes."""
    rows = []
    for name, each in timed.items():
        pairs = [each[f"{what}, float32"] / each[f"{what}, bf16"] for what in ("fbf", "generator")]
        beside = each[PLAIN] / each["fbf, bf16"]
        rows.append([name, *(f"{ratio:.2f}" for ratio in (*pairs, beside))])
    return Table(["float32 / bf16", "fbf", "generator", "plain loop / fbf, both in bf16"], rows)


def loss_table(losses: dict[str, dict[str, list[float]]]) -> Table:
    """How far training gets."""
    rows = [
        [name, bits, f"{statistics.mean(found):.3f}", f"{min(found):.3f} to {max(found):.3f}"]
        for name, each in losses.items()
        for bits, found in each.items()
    ]
    return Table(["last losses", "in", "mean", "of the seeds"], rows)


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
