"""Finds which learning rates a direct training can take (range test, Smith 2017)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from attacks import AttackError
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig

STEPS = 200
LOWEST, HIGHEST = 1e-5, 10.0
SMOOTHING = 0.9
"""Share of the mean so far in each smoothed loss."""
DIVERGED = 2.0
"""Times the least loss at which the test ends: from there it only gets worse."""


def range_test(
    config: BaselineConfig,
    dataset: Dataset,
    device: torch.device,
    steps: int = STEPS,
    after_step: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Learning rates, growing evenly in their logarithm from step to step, and smoothed losses.

    One training, at the full radius and k-WTA's final share from its first step. It ends early once
    the loss explodes; `RunError` when it does so at once.
    """
    trainer = DirectTrainer(config, dataset, device)
    trainer.module.train()
    attack = trainer.plan.training_attack(1.0)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for images, labels in _batches(trainer, steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(losses) / max(1, steps - 1))
        try:
            loss = float(trainer.take_step(images, labels, attack, rate))
        except AttackError:  # raised for logits that are no numbers
            loss = math.nan
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING ** (len(losses) + 1))
        if not math.isfinite(loss) or (losses and smoothed > DIVERGED * min(losses)):
            break
        rates.append(rate)
        losses.append(smoothed)
        after_step()
    if not losses:
        raise RunError(f"the loss is {loss} at the lowest learning rate, {LOWEST:g}")
    return rates, losses


def _batches(trainer: DirectTrainer, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many batches of training images, epoch after epoch."""
    done = 0
    while True:
        for batch in trainer.dataset.train.batches(trainer.plan.recipe.batch_size, trainer.rng):
            yield batch
            done += 1
            if done == count:
                return


def suggested_bounds(rates: list[float], losses: list[float]) -> tuple[float, float]:
    """(lower, upper) bound: where a tenth of the loss's whole fall is behind it, and its bottom."""
    least = min(losses)
    bottom = losses.index(least)
    fallen = losses[0] - 0.1 * (losses[0] - least)
    start = next(index for index, loss in enumerate(losses) if loss <= fallen)
    return rates[min(start, bottom)], rates[bottom]
