"""The whole trade-off by one generator, beside one direct training for each point of it.

A generator conditioned on beta is trained once and sampled at several preferences, most of them
small, for on MNIST robustness costs so little accuracy that nearly all of the trade-off lies there;
FBF and PGD training with the same weights of attacked against clean images are done once for each.
Judged by standard robust accuracy (SRA). What took how many seconds is told too. Networks and
figures are kept: a killed run goes on.

    HYPERGEN_DATA=... python -m scripts.front
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hypergen import data
from hypergen.baseline import BaselineConfig
from hypergen.checkpoint import CHECKPOINT
from hypergen.config import CONFIG, TrainConfig
from hypergen.evaluate import Judge
from hypergen.sample import load_generator
from hypergen.scatter import scatter
from hypergen.train import train
from scripts.cells import (
    RESULTS,
    begun,
    cell,
    chosen,
    claim,
    device,
    kept,
    now,
    publish,
    run,
    trained,
)
from targets import Population

DIRECT = {"fbf": "FBF, each its own", "pgd": "PGD training, each its own"}
TRAIN = TrainConfig(dataset="mnist", epsilon=0.3, beta="0:1", steps=4000)


@dataclass(frozen=True)
class FrontConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps, epochs and images cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of the generator; direct training takes data set, target, activation and threat from it"""
    only: tuple[str, ...] = ()
    """direct trainings to set beside it: fbf, pgd; default: all"""
    betas: tuple[float, ...] = (0.0, 0.02, 0.1, 0.5, 1.0)
    """preferences for robustness"""
    samples: int = 4
    """networks drawn at each"""
    epochs: int | None = None
    """of each direct training; default: the recipe's"""
    images: int = 300
    """test images attacked; accuracy is over all"""
    work: Path = Path("runs/front")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "front.json"
    """the figures as JSON; the picture is written beside it"""


QUICK = FrontConfig(quick=True, train=replace(TRAIN, steps=400), epochs=1, images=30, samples=2)


def judged(config: FrontConfig, population: Population, dataset: data.Dataset) -> Any:
    """A row of figures a network."""
    judge = Judge(config.train.threat, "standard", restarts=1, images=config.images)
    keys = ("accuracy", "pgd", "sra")
    return [{key: row[key] for key in keys} for row in judge.judge(population, dataset, "judging")]


def generator(config: FrontConfig, dataset: data.Dataset) -> dict[str, Any]:
    """Trains the one generator; the seconds it took, None if an earlier call did some of it."""
    folder = config.work / "generator"
    whole, started = not (folder / CHECKPOINT).exists(), now()
    folder.mkdir(exist_ok=True)
    config.train.save(folder / CONFIG)
    train(config.train, dataset, folder, device())
    return {"seconds": round(now() - started, 3) if whole else None}


def at(config: FrontConfig, kind: str, beta: float) -> Path:
    """The file of the figures of a kind at one preference."""
    return cell(config.work, f"{kind}-{beta:g}")


def direct(config: FrontConfig, method: str, beta: float, dataset: data.Dataset) -> dict[str, Any]:
    """Trains one network at one preference and judges it."""
    settings, path = config.train, at(config, method, beta).with_suffix(".safetensors")
    recipe = BaselineConfig(
        method=method,
        dataset=settings.dataset,
        target=settings.target,
        activation=settings.activation,
        beta=beta,
        norm=settings.norm,
        epsilon=settings.epsilon,
        epochs=config.epochs,
        seed=settings.seed,
    )
    whole, started = not begun(path), now()
    network = trained(path, recipe, dataset, device())
    seconds = round(now() - started, 3) if whole else None
    return {"seconds": seconds, "rows": judged(config, Population.of([network]), dataset)}


def main(config: FrontConfig) -> None:
    """Trains and judges all, prints the table, writes and draws it."""
    methods = chosen(
        config.only, DIRECT, lambda name: [at(config, name, beta) for beta in config.betas]
    )
    settings = claim(config.work, config)
    dataset = data.load(config.train.dataset, device=device())
    made = kept(config.work / "generator.json", lambda: generator(config, dataset))
    sampler = load_generator(config.work / "generator", dataset)
    rows: list[dict[str, Any]] = []
    spent: dict[str, list[float | None]] = {method: [] for method in methods}
    for beta in config.betas:
        drawn = kept(
            at(config, "samples", beta),
            lambda beta=beta: judged(config, sampler.sample(config.samples, beta), dataset),
        )
        rows += [{"kind": "one generator", "beta": beta, **row} for row in drawn]
        for method in methods:
            alone = kept(at(config, method, beta), partial(direct, config, method, beta, dataset))
            spent[method].append(alone["seconds"])
            rows += [{"kind": DIRECT[method], "beta": beta, **row} for row in alone["rows"]]
    print(f"\n{'':<28}{'beta':>6}{'accuracy':>10}{'PGD-50':>10}{'SRA':>10}")
    for row in rows:
        shown = "".join(f"{100 * row[key]:>10.2f}" for key in ("accuracy", "pgd", "sra"))
        print(f"{row['kind']:<28}{row['beta']:>6g}{shown}")
    seconds = {"generator": made["seconds"]}
    for method, each in spent.items():
        told = [one for one in each if one is not None]
        seconds[method] = sum(told) if len(told) == len(each) else None
    print("seconds:", seconds)
    found = {"networks": rows, "seconds": seconds}
    publish(config.out, settings, found, picture=scatter(rows, "sra"))


if __name__ == "__main__":
    run(main, FrontConfig, __doc__, QUICK)
