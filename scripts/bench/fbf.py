"""How fast FBF training is here, beside a plain loop that follows the paper's code for MNIST.

All three train `fbf-cnn`, a few batches each in turn, so that whatever else the machine does meets
them all: the loop; `hypergen baseline` with the loop's own one step at a constant radius; and
`hypergen baseline` with its recipe for grey images, which tries three lengths of that step and so
has three more forward passes. The images are in memory for all, and the validation that ends an
epoch is left out. Prints a table and a line of JSON; a ratio is the loop's time over hypergen's,
the median of all turns.

    HYPERGEN_DATA=... python -m scripts.bench.fbf
"""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import attacks
from hypergen import data
from hypergen.models.bundle import fresh_target
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.recipes import at_once
from scripts.common import RESULTS, device, now, publish, run, settings_of, shortened
from targets import Population

TARGET, EPSILON, ALPHA, RATE, BATCH = "fbf-cnn", 0.3, 0.375, 5e-3, 100
LOOP = "plain loop"


@dataclass(frozen=True)
class BenchConfig:
    """What is trained, and for how long."""

    dataset: str = "mnist"
    """mnist, fashion-mnist or digits"""
    batches: int = 27
    """batches of 100 images a turn; as many make an epoch of the training"""
    turns: int = 20
    """turns of each"""
    threads: int = 1
    """CPU threads, for all"""
    seed: int = 0
    """of the initial weights, the order of images and the random starts"""
    out: Path = RESULTS / "bench_fbf.json"
    """the figures as JSON"""


def ours(config: BenchConfig, dataset: data.Dataset) -> DirectTrainer:
    """A training by FBF as `hypergen baseline` does it, with its three lengths of the step."""
    settings = {"target": TARGET, "epsilon": EPSILON, "epochs": config.turns, "seed": config.seed}
    return DirectTrainer(BaselineConfig.of(dataset=config.dataset, **settings), dataset, device())


def with_one_step(trainer: DirectTrainer) -> DirectTrainer:
    """The same training by the paper's attack: one step, always of the same length."""
    recipe = trainer.plan.recipe
    recipe = replace(recipe, fbf=attacks.RandomFGSM, epsilon_factor=1.0, growth=at_once)
    trainer.plan = replace(trainer.plan, recipe=recipe)
    return trainer


class PlainLoop:
    """FBF's training for MNIST as its authors' train_mnist.py has it, at the attack "fgsm"."""

    def __init__(self, config: BenchConfig, dataset: data.Dataset):
        self.config, self.dataset, self.epoch = config, dataset, 0
        torch.manual_seed(config.seed)
        self.module = fresh_target(TARGET, "relu", dataset.info).to(device())
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=RATE)

    def train_epoch(self) -> None:
        """One pass over the images."""
        self.module.train()
        order = torch.randperm(len(self.dataset.train)).split(BATCH)
        for step, indices in enumerate(order):
            images, labels = self.dataset.train.batch(indices)
            passed = self.epoch + (step + 1) / len(order)
            turns = self.config.turns
            rate = float(np.interp(passed, [0, 0.4 * turns, turns], [0, RATE, 0]))
            self.optimizer.param_groups[0]["lr"] = rate
            delta = torch.zeros_like(images).uniform_(-EPSILON, EPSILON).requires_grad_()
            F.cross_entropy(self.module(images + delta), labels).backward()
            assert delta.grad is not None
            delta = delta.detach() + ALPHA * delta.grad.sign()
            delta = delta.clamp(-EPSILON, EPSILON).clamp(-images, 1 - images)
            loss = F.cross_entropy(self.module((images + delta).clamp(0, 1)), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.epoch += 1


def main(config: BenchConfig) -> None:
    """Trains by turns, prints and writes."""
    torch.set_num_threads(config.threads)
    whole = data.load(config.dataset, device=device())
    dataset = shortened(whole, BATCH * config.batches)
    ways = {
        LOOP: PlainLoop(config, dataset),
        "one step": with_one_step(ours(config, dataset)),
        "three lengths": ours(config, dataset),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    print(f"{'ms a batch':>10}" + "".join(f"{name:>15}" for name in ways))
    for turn in range(config.turns):
        for name, way in ways.items():
            start = now()
            way.train_epoch()
            seconds[name].append(now() - start)
        row = "".join(f"{1000 * seconds[name][-1] / config.batches:>15.2f}" for name in ways)
        print(f"{turn + 1:>10}{row}", flush=True)
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[LOOP], taken, strict=True))
        for name, taken in seconds.items()
        if name != LOOP
    }
    print(f"{'ratio':>10}{'':>15}" + "".join(f"{ratio:>15.2f}" for ratio in ratios.values()))
    images, labels = whole.test.first(1000)
    population = Population.of(way.module.eval() for way in ways.values())
    right = population(images.expand(len(population), *images.shape)).argmax(-1) == labels
    found = {
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "ms_a_batch": {
            name: [round(1000 * taken / config.batches, 3) for taken in row]
            for name, row in seconds.items()
        },
        "accuracy": dict(zip(ways, right.double().mean(1).tolist(), strict=True)),
    }
    publish(config.out, settings_of(config), found)


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
