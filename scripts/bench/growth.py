"""How speed grows with the population: PGD on P = 1, 2, 4, ... networks at once.

Beside each P: a loop over torchattacks' PGD on a few of the networks, the share of the device's
measured peak, memory, and generator steps. Networks: a fresh one and noisy copies. Images already
lost would leave the work, so both sides only perturb (`Attack.perturb`): no image is dropped or
judged, and every step is one forward and one backward pass. Where a data set's files are missing
the images are random. A P that runs out of memory, or that nothing compiles, ends its series.
Figures are kept one by one: a killed run goes on.

    HYPERGEN_DATA=... python -m scripts.bench.growth --compiled
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchattacks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import attacks
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.data.builtin import INFOS
from hypergen.errors import InputError
from hypergen.models.bundle import fresh_target
from hypergen.runtime.batching import for_all
from hypergen.runtime.fitting import networks_at_once
from hypergen.training.trainer import Trainer
from scripts.bench.population import noisy_copies
from scripts.common import (
    RESULTS,
    cached_json,
    chosen,
    device,
    ensure_same_settings,
    machine,
    now,
    publish,
    run,
)
from targets import Population

SIZES = {"small-lenet5": ("mnist", 1000, 1024), "resnet20": ("cifar10", 256, 64)}
"""The data set of each target, its images and the most networks."""
WARM_UP = 3
"""Steps before the clock runs; CUDA graphs are captured at the second."""
COLUMNS = ("seconds", "networks_per_second", "ratio", "flops_per_second", "share_of_peak", "gib")


@dataclass(frozen=True)
class GrowthConfig:
    """What is timed."""

    quick: bool = False
    """1 and 2 networks, 8 images, 2 steps: to see it work"""
    targets: tuple[str, ...] = tuple(SIZES)
    """architectures"""
    most: int | None = None
    """networks at most; default: 1,024 small-lenet5, 64 resnet20"""
    images: int | None = None
    """of each network; default: 1,000 for small-lenet5, 256 for resnet20"""
    steps: int = 50
    """steps of PGD"""
    loop: int = 4
    """networks attacked by torchattacks, whose rate does not depend on P"""
    generator_most: int = 64
    """networks of a generator step at most"""
    generator_steps: int = 8
    """generator steps timed; in one of 8 the value network is fitted"""
    compiled: bool = False
    """attack also through torch.compile; on a GPU with CUDA graphs, on a CPU without a compiler"""
    least: float = 1.0
    """seconds spent on a figure, the median of as many calls; at least one"""
    seed: int = 0
    """of the networks and the random starts"""
    work: Path = Path("runs/bench-growth")
    """folder of the single figures"""
    out: Path = RESULTS / "bench_growth.json"
    """the figures as JSON"""


QUICK = GrowthConfig(quick=True, most=2, images=8, steps=2, generator_steps=1, least=0.0)


class Problem:
    """A target, images [B,C,H,W] for it and an attack; what is timed gives seconds and GiB."""

    def __init__(self, config: GrowthConfig, target: str):
        name, images, most = SIZES[target]
        self.config, self.target, self.most = config, target, config.most or most
        self.dataset, self.images_are = loaded(name)
        self.images, self.labels = self.dataset.test.first(config.images or images)
        threat = TrainConfig.of(dataset=name).threat
        self.attack = attacks.PGD(threat, steps=config.steps)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.module = (
                fresh_target(target, "relu", self.dataset.info).eval().requires_grad_(False)
            )
        self.module.to(device())

    def population(self, count: int) -> Population:
        """The fresh network and noisy copies of it."""
        return noisy_copies(Population.of([self.module]), count, self.config.seed)

    def attacked(self, count: int, with_compiler: bool) -> dict[str, Any]:
        """An attack on `count` networks, as many at once as may be."""
        population = self.population(count)
        forward = compiled(population) if with_compiler else None
        # A power of two: compiled code then meets one shape alone.
        size = 1 << (networks_at_once(population, self.images) or 1).bit_length() - 1

        def perturb(attack: attacks.PGD) -> None:
            for _, chunk in population.chunks(size):
                model = chunk
                if forward is not None:
                    model = partial(forward, chunk.layout.unflatten(chunk.theta) | chunk.buffers)
                seeds = [self.config.seed] * len(chunk)
                attack.perturb(model, for_all(self.images, chunk), self.labels, seeds)

        perturb(replace(self.attack, steps=WARM_UP))
        return timed(lambda: perturb(self.attack), self.config.least)

    def looped(self, count: int) -> dict[str, Any]:
        """torchattacks' PGD on `count` networks, one after the other."""
        population, epsilon = self.population(count), self.attack.threat.epsilon

        def loop(steps: int) -> None:
            for module in modules:
                attack = torchattacks.PGD(module, epsilon, self.attack.size, steps)
                attack(self.images, self.labels)

        modules = list(population)
        loop(WARM_UP)
        return timed(lambda: loop(self.attack.steps), self.config.least)

    def trained(self, count: int) -> dict[str, Any]:
        """Steps of a generator of `count` networks, objective `direct`."""
        config = TrainConfig.of(dataset=self.dataset.name, target=self.target, population=count)
        trainer, steps = Trainer(config, self.dataset, device()), self.config.generator_steps
        for _ in range(WARM_UP):
            trainer.take_step()
        return timed(lambda: [trainer.take_step() for _ in range(steps)], 0)

    def flops(self) -> int:
        """Floating-point operations of the attack on one network, those that PyTorch counts.

        Of a plain module: what vmap makes of it may compute more to the same end.
        """
        with FlopCounterMode(display=False) as counter:
            logits = self.module(self.images[:1].clone().requires_grad_())
            F.cross_entropy(logits, self.labels[:1]).backward()
        return counter.get_total_flops() * len(self.images) * self.attack.steps


def loaded(name: str) -> tuple[data.Dataset, str]:
    """The data set, or random images of its shape and by its name; and what they are."""
    try:
        return data.load(name, device=device()), name
    except InputError as error:
        print(f"{error}\nusing random images")
    rng, info = torch.Generator().manual_seed(0), INFOS[name]
    images = torch.randint(256, (2000, *info.input_shape), generator=rng, dtype=torch.uint8)
    split = data.Split(images, torch.arange(2000) % info.num_classes).to(device())
    return data.Dataset(info, split, split, split), "random"


def compiled(population: Population) -> Callable[..., torch.Tensor]:
    """The forward pass that a GPU runs, of weights, buffers and images, compiled anew."""
    torch.compiler.reset()
    cuda = {"mode": "reduce-overhead"}
    options: dict[str, Any] = cuda if device().type == "cuda" else {"backend": "aot_eager"}
    return torch.compile(population._vmap, fullgraph=True, dynamic=False, **options)


def timed(action: Callable[[], object], least: float) -> dict[str, Any]:
    """Median seconds of a call; the most GiB that PyTorch held on the GPU, None without one."""
    cuda, times = device().type == "cuda", []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    while not times or sum(times) < least:
        start = now()
        action()
        times.append(now() - start)
    gib = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return {"seconds": statistics.median(times), "gib": gib}


def peak_rates(least: float) -> dict[str, float]:
    """Greatest rate of a matrix product, FLOP/s; on a GPU also on tensor cores."""
    cuda, found = device().type == "cuda", {}
    for kind in ("fp32", "tf32", "bf16") if cuda else ("fp32",):
        torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        for size in (4096, 8192, 16384) if cuda else (512, 1024):
            matrix = torch.rand(size, size, device=device())
            matrix = matrix.bfloat16() if kind == "bf16" else matrix
            product = partial(torch.mm, matrix, matrix)
            product()
            rate = 2 * size**3 / timed(product, least / 4)["seconds"]
            found[kind] = max(rate, found.get(kind, 0.0))
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def series(config: GrowthConfig, name: str, most: int, make: Callable[[int], Any]) -> list[Any]:
    """What `make` finds at P = 1, 2, 4, ... up to `most`, or up to the first that fails.

    A failure is not kept: what stood in the way may have been no more than a busy GPU.
    """
    rows: list[dict[str, Any]] = []
    for power in range(most.bit_length()):
        rows.append({"networks": 2**power})
        path = config.work / f"{name}-{2**power}.json"
        try:
            rows[-1] |= cached_json(path, partial(make, 2**power))
        except RuntimeError as error:  # no memory left, or nothing that compiles
            rows[-1]["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(name, rows[-1], flush=True)
        if "failed" in rows[-1]:
            break
    return rows


def figures(problem: Problem, peak: float) -> dict[str, Any]:
    """All that is timed on one target, the rates that follow, and their table."""
    config, name, work = problem.config, problem.target, problem.flops()
    loop = cached_json(config.work / f"{name}-loop.json", partial(problem.looped, config.loop))
    pace = config.loop / loop["seconds"]
    found: dict[str, Any] = {"images_are": problem.images_are, "loop_networks_per_second": pace}
    most = min(problem.most, config.generator_most)
    found["generator"] = series(config, f"{name}-generator", most, problem.trained)
    for row in found["generator"]:
        if "failed" not in row:
            row["steps_per_second"] = config.generator_steps / row["seconds"]
    for way in ("plain", "compiled") if config.compiled else ("plain",):
        attacked = partial(problem.attacked, with_compiler=way == "compiled")
        found[way] = series(config, f"{name}-{way}", problem.most, attacked)
        for row in found[way]:
            if "failed" not in row:
                rate = row["networks"] / row["seconds"]
                row |= {"networks_per_second": rate, "ratio": rate / pace}
                row |= {"flops_per_second": rate * work, "share_of_peak": rate * work / peak}
    return found


def show(target: str, found: dict[str, Any]) -> None:
    """The table of one target."""
    print(f"\n{target}, images: {found['images_are']}")
    print(f"torchattacks, one after the other: {found['loop_networks_per_second']:.3g} networks/s")
    print(f"{'':<10}{'networks':>8}" + "".join(f"{name:>20}" for name in COLUMNS))
    for way in ("plain", "compiled"):
        for row in found.get(way, ()):
            cells = [f"{row[name]:>20.4g}" for name in COLUMNS if row.get(name) is not None]
            print(f"{way:<10}{row['networks']:>8}" + "".join(cells) + row.get("failed", ""))
    for row in found["generator"]:
        text = row.get("failed") or f"{row['steps_per_second']:.3g}"
        print(f"generator {row['networks']:>8} networks, steps per second: {text}")


def main(config: GrowthConfig) -> None:
    """Times all, prints the tables and writes the figures."""
    settings = ensure_same_settings(config.work, config, timed_on=machine())
    peaks = cached_json(config.work / "peak.json", lambda: peak_rates(config.least))
    print("matrix products, FLOP/s:", peaks)
    found = {
        target: figures(Problem(config, target), peaks["fp32"])
        for target in chosen(config.targets, SIZES)
    }
    for target, row in found.items():
        show(target, row)
    publish(config.out, settings, {"peak_flops_per_second": peaks, "targets": found})


if __name__ == "__main__":
    run(main, GrowthConfig, __doc__, QUICK)
