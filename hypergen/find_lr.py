"""Which learning rates a direct training can take (range test, Smith 2017)."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from attacks import AttackError
from hypergen import data
from hypergen.baseline import BaselineConfig, BaselineTraining
from hypergen.errors import InputError, RunError
from hypergen.lock import locked
from hypergen.picture import write_picture
from hypergen.tracking import Bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "learning-rate.png"
STEPS = 200
LOWEST, HIGHEST = 1e-5, 10.0
SMOOTHED = 0.9
"""Share of the mean so far in each smoothed loss."""
BEYOND = 2.0
"""Times the least loss at which the test ends: from there it only gets worse."""


def range_test(
    config: BaselineConfig, dataset: data.Dataset, device: torch.device, steps: int = STEPS
) -> tuple[list[float], list[float]]:
    """Learning rates, growing evenly in their logarithm from step to step, and smoothed losses.

    One training, at the full radius and k-WTA's final share from its first step. It ends early once
    the loss explodes; `RunError` when it does so at once.
    """
    training = BaselineTraining(config, dataset, device)
    training.module.train()
    rates: list[float] = []
    losses: list[float] = []
    mean, bar = 0.0, Bar("range test", steps)
    while len(losses) < steps:
        for images, labels in dataset.train.batches(config.recipe.batch_size, training.rng):
            count = len(losses)
            rate = LOWEST * (HIGHEST / LOWEST) ** (count / max(1, steps - 1))
            attack = config.training_attack(1.0)
            try:
                loss = float(training.take_step(images, labels, attack, rate))
            except AttackError:  # it is told logits that are no numbers
                loss = math.nan
            mean = SMOOTHED * mean + (1 - SMOOTHED) * loss
            smoothed = mean / (1 - SMOOTHED ** (count + 1))
            if not math.isfinite(loss) or (losses and smoothed > BEYOND * min(losses)):
                bar.close()
                if not losses:
                    raise RunError(f"the loss is {loss} at the lowest learning rate, {LOWEST:g}")
                return rates, losses
            rates.append(rate)
            losses.append(smoothed)
            bar.advance(figures=f"loss {smoothed:.3g}")
            if len(losses) == steps:
                break
    bar.close()
    return rates, losses


def suggested(rates: list[float], losses: list[float]) -> tuple[float, float]:
    """(lower, upper) bound: where a tenth of the loss's whole fall is behind it, and its bottom."""
    least = min(losses)
    bottom = losses.index(least)
    fallen = losses[0] - 0.1 * (losses[0] - least)
    start = next(index for index, loss in enumerate(losses) if loss <= fallen)
    return rates[min(start, bottom)], rates[bottom]


def curve(rates: list[float], losses: list[float]) -> "Figure":
    """The loss over the learning rate, the bounds marked."""
    from matplotlib.figure import Figure  # here, for it takes a second that others need not spend

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    for bound in suggested(rates, losses):
        axes.axvline(bound, linestyle="--", color="grey")
        axes.text(bound, max(losses), f" {bound:.2g}", va="top")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, smoothed")
    axes.grid(alpha=0.3)
    return figure


def find_lr(config: BaselineConfig, out: Path, device: torch.device, data_dir: Path | None) -> Path:
    """`hypergen baseline --find-lr`: writes out/learning-rate.png and prints both bounds."""
    path = out / PICTURE
    if path.exists():
        raise InputError(f"{path} exists; choose another --out")
    dataset = data.load(config.dataset, data_dir, device)
    with locked(out):
        rates, losses = range_test(config, dataset, device)
        lower, upper = suggested(rates, losses)
        write_picture(path, curve(rates, losses))
    print(f"{path}: the loss falls at learning rates from {lower:.2g} to {upper:.2g}")
    print(f"train with --learning-rate {upper:.2g} or less: it is the highest of the training")
    return path
