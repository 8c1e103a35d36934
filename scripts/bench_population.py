"""How much faster a population is attacked here than by a loop over torchattacks.

Both run PGD (cross-entropy, random start) on the same networks and images, in batches of the same
size and from the same starts, a few networks at a time by turns, so that whatever else the machine
does meets both. The networks are samples of a run's generator, attacked at its radius, or, without
a run, trained by FBF and then repeated with a little noise on their weights. The memory that many
networks take is that of a process of its own, on a GPU what PyTorch holds there. Prints a table and
a line of JSON.

    make bench ARGS="--run RUN"
    make bench ARGS="--networks 256 --turn 256 --batch-size 1000"       # on a GPU, all at once
"""

import multiprocessing
import resource
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchattacks
from torch import Tensor, nn

import attacks
from hypergen import data
from hypergen.baseline import BaselineConfig, fresh_target, train_baseline
from hypergen.errors import InputError
from hypergen.measure import survivors
from hypergen.sample import load_generator
from scripts.cells import RESULTS, about, device, now, publish, run
from targets import Population

NOISE = 0.02
"""Standard deviation of the noise that tells copies apart, in units of the layout's scales."""


@dataclass(frozen=True)
class BenchConfig:
    """What is attacked, and how."""

    run: Path | None = None
    """folder of a run whose samples are attacked; default: FBF networks and noisy copies"""
    dataset: str = "mnist"
    """data set without a run; digits where its files are missing"""
    networks: int = 64
    """networks attacked"""
    trained: int = 4
    """without a run, different ones among them, each trained by FBF"""
    epochs: int = 2
    """of their training"""
    crowd: int = 256
    """networks whose memory is measured"""
    images: int = 1000
    """test images, the first of the test part"""
    steps: int = 50
    """steps of PGD, of size 2.5 * epsilon / steps"""
    batch_size: int = 250
    """images at a time, for both"""
    turn: int = 4
    """networks attacked by the one before it is the other's turn"""
    threads: int = 2
    """CPU threads, for both"""
    seed: int = 0
    """of the training, the noise and the random starts"""
    out: Path = RESULTS / "bench_population.json"
    """where the figures are written"""


def main(config: BenchConfig) -> None:
    """Trains, attacks by turns, prints and writes."""
    torch.set_num_threads(config.threads)
    if config.run is None:
        population, dataset, threat = networks(config)
        networks_are: Any = "FBF, noisy copies"
        target = BaselineConfig().target, "relu", dataset.name
    else:
        run = load_generator(config.run).config
        threat = run.threat
        if threat.norm != "linf":
            raise InputError(f"{config.run} is of {threat.norm}, torchattacks' PGD of linf")
        dataset = data.load(run.dataset, device=device())
        population = load_generator(config.run, dataset).sample(config.networks, seed=config.seed)
        target = run.target, run.activation, run.dataset
        networks_are = {"samples_of": about(run)}
    population = population.to(device())
    images, labels = dataset.test.first(config.images)
    attack = attacks.PGD(threat, steps=config.steps)

    def ours(part: Population, images: Tensor, labels: Tensor) -> Tensor:
        table = survivors(part, images, labels, attack, config.seed, config.batch_size)
        return table[attack.name]

    def theirs(modules: list[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([loop(module, images, labels, attack, config) for module in modules])

    # What is set up at a first call (threads, kernels) is paid before the clock runs.
    ours(population[:1], images[:32], labels[:32])
    theirs([population.module_at(0)], images[:32], labels[:32])

    print(f"{'networks':>9} {'torchattacks':>13} {'hypergen':>9} {'ratio':>6}")
    seconds, robust = [], []
    for place, part in population.pieces(config.turn):
        modules = [part.module_at(index) for index in range(len(part))]
        before, left_by_theirs = timed(theirs, modules, images, labels)
        after, left_by_ours = timed(ours, part, images, labels)
        seconds.append((before, after))
        robust += zip(share(left_by_theirs), share(left_by_ours), strict=True)
        named = f"{place.start}-{place.stop - 1}"
        print(f"{named:>9} {before:>11.1f} s {after:>7.1f} s {before / after:>6.2f}", flush=True)

    print("\nrobust accuracy (%), network by network")
    for name, row in zip(("torchattacks", "hypergen"), zip(*robust, strict=True), strict=True):
        print(f"{name:>12}: " + " ".join(f"{100 * value:.1f}" for value in row))
    crowd = population.theta[torch.arange(config.crowd) % len(population)]
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        peak = peak_memory(target, crowd, images, labels, attack, config)
    else:
        with multiprocessing.get_context("spawn").Pool(1) as other:
            peak = other.apply(peak_memory, (target, crowd, images, labels, attack, config))
    print(f"\n{config.crowd} networks x {len(images)} images: {peak:.2f} GiB at the most")
    ratio = round(statistics.median(before / after for before, after in seconds), 2)
    print(f"\nmedian ratio {ratio}")
    found = {
        "peak_gib": round(peak, 2),
        "epsilon": threat.epsilon,
        "target": target[0],
        "ratio": ratio,
        "seconds": {
            "torchattacks": [round(before, 2) for before, _ in seconds],
            "hypergen": [round(after, 2) for _, after in seconds],
        },
        "robust_accuracy": {
            "torchattacks": [before for before, _ in robust],
            "hypergen": [after for _, after in robust],
        },
        "never_higher": all(after <= before for before, after in robust),
    }
    settings = asdict(config) | {"dataset": dataset.name, "networks_are": networks_are}
    del settings["out"], settings["run"]
    publish(config.out, settings, found)


def networks(config: BenchConfig) -> tuple[Population, data.Dataset, attacks.Threat]:
    """Networks trained by FBF, noisy copies of them, and what they are for."""
    try:
        dataset = data.load(config.dataset, device=device())
    except InputError as error:
        print(f"{error}\nusing digits")
        dataset = data.load("digits", device=device())
    trained = Population.of(
        train_baseline(
            BaselineConfig("fbf", dataset.name, epochs=config.epochs, seed=config.seed + index),
            dataset,
            device(),
            show=False,
        )
        for index in range(min(config.trained, config.networks))
    )
    threat = attacks.Threat("linf", dataset.epsilon)
    return noisy_copies(trained, config.networks, config.seed), dataset, threat


def noisy_copies(originals: Population, count: int, seed: int) -> Population:
    """`count` networks, the originals first and then copies that noise tells apart."""
    copies = originals.choose(torch.arange(count) % len(originals))
    rng = torch.Generator().manual_seed(seed)
    noise = NOISE * copies.layout.scales() * torch.randn(copies.theta.shape, generator=rng)
    noise[: len(originals)] = 0
    return copies.with_theta(copies.theta + noise.to(copies.theta.device))


def peak_memory(
    target: tuple[str, str, str],
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    attack: attacks.PGD,
    config: BenchConfig,
) -> float:
    """GiB taken once all networks are attacked; on a CPU by the process, PyTorch included."""
    torch.set_num_threads(config.threads)
    module = fresh_target(*target)
    brief = replace(attack, steps=min(attack.steps, 3))  # which leaves more images than 50 do
    population = Population(module, theta)
    survivors(population, images, labels, brief, config.seed, config.batch_size)
    if theta.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def loop(
    module: nn.Module, images: Tensor, labels: Tensor, attack: attacks.PGD, config: BenchConfig
) -> Tensor:
    """Which images torchattacks' PGD leaves correct, bool [N]."""
    theirs = torchattacks.PGD(module, attack.threat.epsilon, attack.size, attack.steps)
    found = []
    with torch.random.fork_rng():
        for start in range(0, len(images), config.batch_size):
            batch = slice(start, start + config.batch_size)
            torch.manual_seed(config.seed + start)  # as `survivors` does, so the starts are equal
            adv = theirs(images[batch], labels[batch])
            with torch.no_grad():
                found.append(module(adv).argmax(-1) == labels[batch])
    return torch.cat(found)


def timed(function: Callable[..., Tensor], *args: object) -> tuple[float, Tensor]:
    """Seconds taken, and the result."""
    start = now()
    result = function(*args)
    return now() - start, result.cpu()


def share(correct: Tensor) -> list[float]:
    """Robust accuracy in [0,1] of each network, from bool [P,N]."""
    return [int(count) / correct.shape[1] for count in correct.sum(1)]


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
