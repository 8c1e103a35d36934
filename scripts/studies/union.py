"""Robustness in several norms at once: two generators beside MSD and AVG training of equal time.

One generator is trained for the union of all norms, one for l1 and linf alone, between which all
other norms lie (Croce, Hein 2022, "Adversarial robustness against multiple and single lp-threat
models via quick fine-tuning of robust classifiers"); both start from a network that MSD trained.
Networks trained directly get as many epochs as fit the time that the second generator took, its
start included. All are judged on test images by the standard attacks
in each norm, and "union" is the share of images that withstand every one. Networks and figures are
kept: a killed study goes on.

    HYPERGEN_DATA=... python -m scripts.studies.union
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.measures.norms import parse_norms
from hypergen.report.tables import Table, percent
from hypergen.storage.atomic import read_json
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.training.direct import DirectTrainer, validate
from hypergen.training.direct_config import BaselineConfig
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
    publish,
    run,
    spent,
    trained,
)
from targets import Population

TRAIN = TrainConfig.of(
    dataset="mnist",
    objective="direct",
    epsilon=0.2,
    steps=1500,
    prior_scale=0.1,
    learning_rate=1e-3,
    attack_steps=10,
    epsilon_start=1.0,  # the start withstands the whole radius
    max_robustness_gap=1.0,
    measure_every=5000,
)
START = "start, MSD"
GENERATORS = "generator, union", "generator, l1 and linf"
L1_WEIGHT = 0.6
"""Of robustness in l1, beside that in linf: samples withstand l1 worst."""
DIRECT: dict[str, Literal["msd", "avg"]] = {"MSD": "msd", "AVG": "avg"}
TIMED_STEPS = 8


@dataclass(frozen=True)
class UnionConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps and images cut down to a minute or two"""
    train: TrainConfig = TRAIN
    """of the generators; start, measures and seeds are those below; direct training takes data set,
    target and activation from it"""
    norms: str = "linf=0.2,l2=1.5,l1=8"
    """norms with their radii"""
    weight: float = 1.0
    """of all robustness; what is left to 1 is that of accuracy"""
    start_epochs: int | None = None
    """of the network that generators start from; by default the recipe's"""
    seeds: tuple[int, ...] = (0,)
    """of the trainings"""
    samples: int = 4
    """networks drawn from each generator"""
    images: int = 200
    """test images attacked; accuracy is over all"""
    attack: str = "standard"
    """what judges"""
    only: tuple[str, ...] = ()
    """trainings to do now, beside those done before; default: all. Those of equal time need the
    second generator"""
    work: Path = Path("runs/union")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "union.json"
    """the figures as JSON"""


QUICK = UnionConfig(
    quick=True,
    train=TRAIN.replace(
        dataset="digits",
        image_size=8,
        target="mlp",
        epsilon=0.1,
        steps=20,
    ),
    norms="linf=0.1,l2=1,l1=4",
    start_epochs=2,
    samples=2,
    images=10,
    attack="pgd",
)


def measures(config: UnionConfig, kind: str) -> tuple[str, ...]:
    """What a generator is trained for."""
    accuracy, threats = f"accuracy={1 - config.weight}", parse_norms(config.norms)
    if kind == GENERATORS[0]:
        return accuracy, f"union:{config.norms}={config.weight}"
    weights = {"l1": L1_WEIGHT * config.weight, "linf": (1 - L1_WEIGHT) * config.weight}
    asked = [
        f"robustness:norm={t.norm},epsilon={t.epsilon}={weights[t.norm]}"
        for t in threats
        if t.norm in weights
    ]
    return accuracy, *asked


def judged(config: UnionConfig, population: Population, dataset: Dataset) -> list[dict[str, Any]]:
    """A row a network: accuracy, robustness in each norm, and union."""
    first, *others = parse_norms(config.norms)
    evaluator = Evaluator(
        first, config.attack, restarts=1, images=config.images, others=tuple(others)
    )
    rows = evaluator.evaluate(population, dataset)
    return [{"accuracy": row["accuracy"], **row["norms"], "union": row["union"]} for row in rows]


def recipe_of(config: UnionConfig, method: Literal["msd", "avg"], seed: int) -> BaselineConfig:
    """How a network is trained directly."""
    return BaselineConfig.of(
        method=method,
        dataset=config.train.data.name,
        target=config.train.target,
        activation=config.train.activation,
        norms=config.norms,
        seed=seed,
    )


def row(config: UnionConfig, kind: str, seed: int, dataset: Dataset) -> dict[str, Any]:
    """Trains what is asked for; the seconds it took, None for a part of it, and its figures."""
    if kind == START:
        recipe = recipe_of(config, "msd", seed).replace(epochs=config.start_epochs)
        return directly(config, kind, recipe, dataset)
    if kind in GENERATORS:
        return generated(config, kind, seed, dataset)
    return in_equal_time(config, kind, seed, dataset)


def directly(
    config: UnionConfig, kind: str, recipe: BaselineConfig, dataset: Dataset
) -> dict[str, Any]:
    """Trains a network; see `row`."""
    path = file_of(config, kind, recipe.seed)
    whole, started = not begun(path), spent()
    network = trained(path, recipe, dataset, device())
    seconds = round(spent() - started, 1) if whole else None
    return {"seconds": seconds, "networks": judged(config, Population.of([network]), dataset)}


def file_of(config: UnionConfig, kind: str, seed: int) -> Path:
    """Where a network trained directly is kept."""
    return cell(config.work, f"{kind}-{seed}").with_suffix(".safetensors")


def generated(config: UnionConfig, kind: str, seed: int, dataset: Dataset) -> dict[str, Any]:
    """Trains a generator and draws from it; see `row`."""
    folder = cell(config.work, f"{kind}-{seed}").with_suffix("")
    whole, started = not (folder / CHECKPOINT).exists(), spent()
    base = str(file_of(config, START, seed))
    settings = config.train.replace(measure=measures(config, kind), base=base, seed=seed)
    sampler = generator(folder, settings, dataset)
    seconds = round(spent() - started, 1) if whole else None
    rows = judged(config, sampler.sample(config.samples, seed=1), dataset)
    return {"seconds": seconds, "networks": rows}


def in_equal_time(config: UnionConfig, kind: str, seed: int, dataset: Dataset) -> dict[str, Any]:
    """Trains a network for as long as the second generator and its start took; see `row`.

    The recipe's epochs where nobody knows how long that was. `InputError`: there is no generator.
    """
    files = [cell(config.work, f"{first}-{seed}") for first in (START, GENERATORS[1])]
    if not all(file.exists() for file in files):
        raise InputError(f"{kind} needs the time that {START} and {GENERATORS[1]} take")
    times = [read_json(file)["seconds"] for file in files]
    seconds = None if None in times else sum(times)
    recipe = recipe_of(config, DIRECT[kind], seed)
    plan = cached_json(
        cell(config.work, f"{kind}-{seed}-epochs"),
        lambda: {"epochs": epochs_in(seconds, recipe, dataset)},
    )
    return plan | directly(config, kind, recipe.replace(**plan), dataset)


def epochs_in(seconds: float | None, recipe: BaselineConfig, dataset: Dataset) -> int | None:
    """How many epochs of a training fill so many seconds, one at least; None for None."""
    if seconds is None:
        return None
    trainer = DirectTrainer(recipe, dataset, device())
    plan = trainer.plan
    batches = dataset.train.batches(plan.recipe.batch_size, trainer.rng)
    ends = []
    for batch in itertools.islice(batches, TIMED_STEPS + 1):
        trainer.take_step(*batch, plan.training_attack(1.0), plan.learning_rate / 10)
        ends.append(spent())
    step = (ends[-1] - ends[0]) / (len(ends) - 1)  # without the first one, which sets up
    validate(trainer.module.eval(), recipe, dataset)
    epoch = step * plan.steps / plan.epochs + spent() - ends[-1]
    return max(1, round(seconds / epoch))


def table(rows: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row a training, means over networks and seeds."""
    figures = list(next(iter(rows.values()))[0]["networks"][0])
    lines = []
    for kind, cells in rows.items():
        networks = [network for each in cells for network in each["networks"]]
        shares = [
            percent(statistics.fmean(each[figure] for each in networks), 1) for figure in figures
        ]
        known = [each["seconds"] for each in cells if each["seconds"] is not None]
        lines.append((kind, *shares, f"{statistics.fmean(known):.0f}" if known else "?"))
    notes = ["% of test images, means of networks and seeds; union: withstands every norm"]
    return Table(("trained by", *figures, "seconds"), lines, notes)


def main(config: UnionConfig) -> None:
    """Trains and judges all, prints the table and writes it."""
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    known = START, *GENERATORS, *DIRECT

    def cells(kind: str) -> list[Path]:
        return [cell(config.work, f"{kind}-{seed}") for seed in config.seeds]

    rows: dict[str, list[dict[str, Any]]] = {}
    for kind in chosen(config.only, known, cells):
        for seed, path in zip(config.seeds, cells(kind), strict=True):
            found = cached_json(path, partial(row, config, kind, seed, dataset))
            rows.setdefault(kind, []).append(found)
    print(table(rows))
    publish(config.out, settings, {"rows": rows})


if __name__ == "__main__":
    run(main, UnionConfig, __doc__, QUICK)
