"""The whole trade-off by one generator, beside one direct training for each point of it.

A generator conditioned on beta is trained once and sampled at several preferences. Most of them are
small, for on MNIST robustness costs so little accuracy that nearly all of the trade-off lies there.
FBF and PGD training, with the same weights of attacked against clean images, are done once for
each. All are judged by standard robust accuracy (SRA); what took how many seconds is told too.
Networks and figures are kept: a killed run goes on.

With a range of epsilon in place of beta's the generator is asked for radii, and networks are
trained directly at each of these:

    HYPERGEN_DATA=... python -m scripts.compare.front
    HYPERGEN_DATA=... python -m scripts.compare.front --train.adversary.epsilon 0 0.3 \
        --train.objective.beta 1 --asked 0 0.05 0.1 0.2 0.3
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments.base import direct_recipe
from hypergen.experiments.run import load_generator
from hypergen.report.scatter import scatter
from hypergen.storage.checkpoint import CHECKPOINT
from scripts.common import (
    RESULTS,
    begun,
    cached_json,
    cell,
    chosen,
    device,
    ensure_same_settings,
    generator,
    load,
    now,
    publish,
    run,
    trained,
)
from targets import Population

Method = Literal["fbf", "pgd"]
DIRECT: dict[Method, str] = {"fbf": "FBF, each its own", "pgd": "PGD training, each its own"}
TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.3, beta="0:1", steps=4000)


@dataclass(frozen=True)
class FrontConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps, epochs and images cut down to minutes on two cores"""
    train: TrainConfig = TRAIN
    """of the generator; direct training takes data set, target, activation and threat from it"""
    only: tuple[str, ...] = ()
    """direct trainings to set beside it: fbf, pgd; default: all"""
    asked: tuple[float, ...] = (0.0, 0.02, 0.1, 0.5, 1.0)
    """preferences for robustness: betas or, of a generator of a range of them, radii"""
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


QUICK = FrontConfig(quick=True, train=TRAIN.replace(steps=400), epochs=1, images=30, samples=2)


def judged(config: FrontConfig, population: Population, dataset: Dataset) -> list[dict[str, Any]]:
    """A row of figures a network."""
    evaluator = Evaluator(config.train.threat, "standard", restarts=1, images=config.images)
    keys = ("accuracy", "pgd", "sra")
    return [{key: row[key] for key in keys} for row in evaluator.evaluate(population, dataset)]


def timed_generator(config: FrontConfig, dataset: Dataset) -> dict[str, Any]:
    """Trains the one generator; the seconds it took, None if an earlier call did some of it."""
    folder = config.work / "generator"
    whole, started = not (folder / CHECKPOINT).exists(), now()
    generator(folder, config.train, dataset)
    return {"seconds": round(now() - started, 3) if whole else None}


def at(config: FrontConfig, kind: str, asked: float) -> Path:
    """The file of the figures of a kind at one preference."""
    return cell(config.work, f"{kind}-{asked:g}")


def direct(config: FrontConfig, method: Method, asked: float, dataset: Dataset) -> dict[str, Any]:
    """Trains one network at one preference and judges it."""
    path = at(config, method, asked).with_suffix(".safetensors")
    recipe = direct_recipe(config.train, method, config.train.optimisation.seed)
    if config.train.knob.name == "beta":
        recipe = recipe.replace(beta=asked)
    elif asked > 0:
        recipe = recipe.replace(beta=config.train.objective.beta_range[1], epsilon=asked)
    else:  # which is no attack
        recipe = recipe.replace(method="standard")
    recipe = recipe.replace(epochs=config.epochs)
    whole, started = not begun(path), now()
    network = trained(path, recipe, dataset, device())
    seconds = round(now() - started, 3) if whole else None
    return {"seconds": seconds, "rows": judged(config, Population.of([network]), dataset)}


def main(config: FrontConfig) -> None:
    """Trains and judges all, prints the table, writes and draws it."""
    methods: list[Any] = chosen(
        config.only, DIRECT, lambda name: [at(config, name, asked) for asked in config.asked]
    )
    for asked in config.asked:
        config.train.knob.given(asked)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    made = cached_json(config.work / "generator.json", partial(timed_generator, config, dataset))
    sampler = load_generator(config.work / "generator", dataset)

    def sampled(asked: float) -> dict[str, Any]:
        preference: dict[str, Any] = {knob: asked}
        return {"rows": judged(config, sampler.sample(config.samples, **preference), dataset)}

    knob = config.train.knob.name
    rows: list[dict[str, Any]] = []
    spent: dict[str, list[float | None]] = {method: [] for method in methods}
    for asked in config.asked:
        drawn = cached_json(at(config, "samples", asked), partial(sampled, asked))
        rows += [{"kind": "one generator", knob: asked, **row} for row in drawn["rows"]]
        for method in methods:
            alone = partial(direct, config, method, asked, dataset)
            figures = cached_json(at(config, method, asked), alone)
            spent[method].append(figures["seconds"])
            rows += [{"kind": DIRECT[method], knob: asked, **row} for row in figures["rows"]]
    show(rows, knob)
    seconds = {"generator": made["seconds"]} | {name: total(each) for name, each in spent.items()}
    print("seconds:", seconds)
    threat = config.train.threat
    title = (
        f"One generator at several {knob} beside direct training at each, a point a network\n"
        f"{dataset.name}, {config.train.target}, {threat.norm}, epsilon {threat.epsilon:.4g}, "
        f"standard attacks on {config.images} test images"
    )
    images = {"accuracy": len(dataset.test), "sra": config.images}
    picture = scatter(rows, "sra", title, images=images)
    publish(config.out, settings, {"networks": rows, "seconds": seconds}, picture=picture)


def total(seconds: Sequence[float | None]) -> float | None:
    """The sum, None if one of them is not known."""
    known = [each for each in seconds if each is not None]
    return sum(known) if len(known) == len(seconds) else None


def show(rows: Sequence[dict[str, Any]], knob: str) -> None:
    """Prints the table."""
    print(f"\n{'':<28}{knob:>8}{'accuracy':>10}{'PGD-50':>10}{'SRA':>10}")
    for row in rows:
        shown = "".join(f"{100 * row[key]:>10.2f}" for key in ("accuracy", "pgd", "sra"))
        print(f"{row['kind']:<28}{row[knob]:>8g}{shown}")


if __name__ == "__main__":
    run(main, FrontConfig, __doc__, QUICK)
