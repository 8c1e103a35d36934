"""How much faster a population is attacked here than by a loop over torchattacks.

Both run PGD (cross-entropy, random start) on the same networks and images, in batches of the same
size and from the same starts. They take turns, a few networks at a time, so that whatever else the
machine does meets both. The networks are samples of a run's generator, attacked at its radius, or,
without a run, trained by FBF and then repeated with a little noise on their weights. The memory
that many networks take is measured in a process of its own, on a GPU as what PyTorch holds there.
Prints a table and a line of JSON.

    python -m scripts.bench.population --run RUN     # or: make bench ARGS="--run RUN"
    python -m scripts.bench.population --networks 256 --turn 256 --batch-size 1000     # on a GPU
"""

import multiprocessing
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchattacks
from torch import Tensor, nn

import attacks
from hypergen import data
from hypergen.errors import InputError
from hypergen.experiments.run import load_generator
from hypergen.measures.attacked import attack_population
from hypergen.models.bundle import fresh_target
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from scripts.common import RESULTS, about, device, load, now, publish, run, settings_of
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


@dataclass(frozen=True)
class Subject:
    """The networks attacked, and what they are for; `networks_are` says where they come from."""

    population: Population
    dataset: data.Dataset
    threat: attacks.Threat
    target: str
    activation: str
    networks_are: Any

    @classmethod
    def of_run(cls, folder: Path, config: BenchConfig) -> "Subject":
        """Samples of a run's generator. `InputError`: a run whose threat torchattacks lacks."""
        trained = load_generator(folder).config
        if trained.threat.norm != "linf":
            raise InputError(f"{folder} is of {trained.threat.norm}, torchattacks' PGD of linf")
        dataset = load(trained.data, device())
        population = load_generator(folder, dataset).sample(config.networks, seed=config.seed)
        made = {"samples_of": about(trained)}
        return cls(population, dataset, trained.threat, trained.target, trained.activation, made)

    @classmethod
    def of_fbf(cls, config: BenchConfig) -> "Subject":
        """Networks trained by FBF, and noisy copies of them."""
        try:
            dataset = data.load(config.dataset, device=device())
        except InputError as error:
            print(f"{error}\nusing digits")
            dataset = data.load("digits", device=device())
        recipe = BaselineConfig.of(method="fbf", dataset=dataset.name, epochs=config.epochs)
        seeds = range(config.seed, config.seed + min(config.trained, config.networks))
        originals = Population.of(
            train_direct(DirectTrainer(recipe.replace(seed=seed), dataset, device()))
            for seed in seeds
        )
        population = noisy_copies(originals, config.networks, config.seed)
        names = recipe.target, recipe.activation, "FBF, noisy copies"
        return cls(population, dataset, recipe.threat, *names)


@dataclass(frozen=True)
class Task:
    """What both attack a network by: PGD on images [N,C,H,W] with labels [N]."""

    config: BenchConfig
    attack: attacks.PGD
    images: Tensor
    labels: Tensor

    def ours(self, population: Population) -> Tensor:
        """Which images PGD of this project leaves correct, bool [P,N]."""
        inputs = self.images, self.labels, self.attack, self.config.seed, self.config.batch_size
        return attack_population(population, *inputs).robust

    def theirs(self, modules: list[nn.Module]) -> Tensor:
        """Which images torchattacks' PGD leaves correct, network by network, bool [P,N]."""
        return torch.stack([self._loop(module) for module in modules])

    def _loop(self, module: nn.Module) -> Tensor:
        attack, config = self.attack, self.config
        theirs = torchattacks.PGD(module, attack.threat.epsilon, attack.size, attack.steps)
        found = []
        with torch.random.fork_rng():
            for start in range(0, len(self.images), config.batch_size):
                batch = slice(start, start + config.batch_size)
                # As `attack_population` does, so the starts are equal.
                torch.manual_seed(config.seed + start)
                adv = theirs(self.images[batch], self.labels[batch])
                with torch.no_grad():
                    found.append(module(adv).argmax(-1) == self.labels[batch])
        return torch.cat(found)


def main(config: BenchConfig) -> None:
    """Trains, attacks by turns, prints and writes."""
    torch.set_num_threads(config.threads)
    subject = Subject.of_fbf(config) if config.run is None else Subject.of_run(config.run, config)
    population = subject.population.to(device())
    attack = attacks.PGD(subject.threat, steps=config.steps)
    task = Task(config, attack, *subject.dataset.test.first(config.images))
    seconds, robust = by_turns(task, population)
    print("\nrobust accuracy (%), network by network")
    for name, row in robust.items():
        print(f"{name:>12}: " + " ".join(f"{100 * value:.1f}" for value in row))
    peak = measured_peak(task, subject, population)
    print(f"\n{config.crowd} networks x {len(task.images)} images: {peak:.2f} GiB at the most")
    pairs = list(zip(seconds["torchattacks"], seconds["hypergen"], strict=True))
    ratio = round(statistics.median(theirs / ours for theirs, ours in pairs), 2)
    print(f"\nmedian ratio {ratio}")
    left = zip(robust["torchattacks"], robust["hypergen"], strict=True)
    found = {
        "peak_gib": round(peak, 2),
        "epsilon": subject.threat.epsilon,
        "target": subject.target,
        "ratio": ratio,
        "seconds": {name: [round(taken, 2) for taken in row] for name, row in seconds.items()},
        "robust_accuracy": robust,
        "never_higher": all(ours <= theirs for theirs, ours in left),
    }
    settings = settings_of(config)
    del settings["run"]
    settings |= {"dataset": subject.dataset.name, "networks_are": subject.networks_are}
    publish(config.out, settings, found)


def by_turns(
    task: Task, population: Population
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every turn, and the robust accuracy in [0,1] of every network, of both."""
    # What is set up at a first call (threads, kernels) is paid before the clock runs.
    brief = replace(task, images=task.images[:32], labels=task.labels[:32])
    brief.ours(population[:1])
    brief.theirs([population[0]])
    print(f"{'networks':>9} {'torchattacks':>13} {'hypergen':>9} {'ratio':>6}")
    seconds: dict[str, list[float]] = {"torchattacks": [], "hypergen": []}
    robust: dict[str, list[float]] = {"torchattacks": [], "hypergen": []}
    for network_slice, chunk in population.chunks(task.config.turn):
        for name, attack, networks in (
            ("torchattacks", task.theirs, list(chunk)),
            ("hypergen", task.ours, chunk),
        ):
            taken, correct = timed(attack, networks)
            seconds[name].append(taken)
            robust[name] += [int(count) / correct.shape[1] for count in correct.sum(1)]
        theirs, ours = (row[-1] for row in seconds.values())
        title = f"{network_slice.start}-{network_slice.stop - 1}"
        print(f"{title:>9} {theirs:>11.1f} s {ours:>7.1f} s {theirs / ours:>6.2f}", flush=True)
    return seconds, robust


def noisy_copies(originals: Population, count: int, seed: int) -> Population:
    """`count` networks, the originals first and then copies that noise tells apart."""
    copies = originals.choose(torch.arange(count) % len(originals))
    rng = torch.Generator().manual_seed(seed)
    noise = NOISE * copies.layout.scales() * torch.randn(copies.theta.shape, generator=rng)
    noise[: len(originals)] = 0
    return copies.with_theta(copies.theta + noise.to(copies.theta.device))


def measured_peak(task: Task, subject: Subject, population: Population) -> float:
    """GiB that an attack on `crowd` networks takes; on a CPU those of a process of its own."""
    theta = population.theta[torch.arange(task.config.crowd) % len(population)]
    what = task, subject.target, subject.activation, subject.dataset.info, theta
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return peak_memory(*what)
    with multiprocessing.get_context("spawn").Pool(1) as other:
        return other.apply(peak_memory, what)


def peak_memory(
    task: Task, target: str, activation: str, info: data.DatasetInfo, theta: Tensor
) -> float:
    """GiB taken once all networks are attacked; on a CPU by the process, PyTorch included."""
    torch.set_num_threads(task.config.threads)
    # Few steps leave more images than all do.
    brief = replace(task, attack=replace(task.attack, steps=min(task.attack.steps, 3)))
    brief.ours(Population(fresh_target(target, activation, info), theta))
    if theta.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(function: Callable[[Any], Tensor], networks: Any) -> tuple[float, Tensor]:
    """Seconds taken, and the result."""
    start = now()
    result = function(networks)
    return now() - start, result.cpu()


if __name__ == "__main__":
    run(main, BenchConfig, __doc__)
