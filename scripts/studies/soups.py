"""Can a generator's networks be mixed in weight space instead? Soups as the trivial competitor.

A generator that was trained for a range of beta gives networks at several betas. Beside them stand
networks that take no generator once their ends are there: on the straight line in weight space
between the samples of the lowest and the highest beta of the same z, and halfway between samples of
two z at one beta. Then a second generator is trained for another norm from the same base, with the
same random prior, and samples of both at one beta are mixed. Hypervolumes say how far the means of
each way reach, and barriers how much a mixture loses against the straight line between its ends.

    HYPERGEN_DATA=... python -m scripts.studies.soups
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import CALIBRATION_IMAGES, Sampler
from hypergen.evaluation.soup import barrier, soup
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.run_folder import BASE
from hypergen.measures.attacked import disagreement, predictions
from hypergen.measures.norms import parse_norms
from hypergen.report.tables import Table, percent
from hypergen.storage.results_cache import ResultsCache
from scripts.common import RESULTS, device, ensure_same_settings, generator, load, publish, run
from targets import Population

TRAIN = TrainConfig.of(dataset="mnist", epsilon=0.2, beta="0:1", base="standard")
GENERATED, OF_BETAS, OF_Z, OF_NORMS = "generated", "two betas", "two z", "two norms"
"""Networks at each beta; soups of the two ends of beta, of two z at each beta, of two norms."""
SEED = 1
"""Of the latent samples, the same at every beta and of both generators."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class SoupsConfig:
    """What is trained and mixed, and how it is judged."""

    quick: bool = False
    """steps, networks and images cut down to minutes on one core"""
    train: TrainConfig = TRAIN
    """of the generator, which has a range of beta"""
    other: str = "l2=1.5"
    """norm and radius that the second generator is trained for; all else is as of the first"""
    betas: tuple[float, ...] = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
    """at which networks are generated; the first and the last are mixed, with as many shares"""
    beta: float = 0.5
    """at which networks of two norms are mixed"""
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """of the second norm's networks in these; 0 and 1 among them"""
    samples: int = 4
    """latent samples"""
    images: int = 500
    """test images attacked; accuracy and disagreement are over all"""
    work: Path = Path("runs/soups")
    """folder of the generators and of the figures"""
    out: Path = RESULTS / "soups.json"
    """the figures as JSON"""


QUICK = SoupsConfig(
    quick=True,
    train=TRAIN.replace(
        dataset="digits",
        image_size=8,
        epsilon=None,
        target="mlp",
        steps=300,
        max_robustness_gap=1.0,
    ),
    other="l2=1",
    betas=(0.0, 0.25, 0.5, 0.75, 1.0),
    shares=(0.0, 0.5, 1.0),
    samples=2,
    images=100,
)


def require(config: SoupsConfig) -> attacks.Threat:
    """The threat of the second generator; `InputError` for what cannot be mixed."""
    low, high = config.train.objective.beta_range
    if config.train.objective.measures or low == high:
        raise InputError("--train.objective.beta must be a range, such as 0:1")
    ascending = sorted({*config.betas})
    if [*config.betas] != ascending or len(ascending) < 2:
        raise InputError("--betas must be two or more numbers, the lowest first")
    if not all(low <= beta <= high for beta in (*config.betas, config.beta)):
        raise InputError(f"--betas and --beta must lie in [{low:g}, {high:g}]")
    if not {0, 1} <= {*config.shares} or not all(0 <= share <= 1 for share in config.shares):
        raise InputError("--shares must lie in [0, 1], with 0 and 1 among them")
    if config.samples < 2:
        raise InputError(f"--samples must be at least 2, got {config.samples}")
    threats = parse_norms(config.other)
    if len(threats) > 1 or threats[0].norm == config.train.adversary.norm:
        raise InputError("--other must be one norm that is not that of --train, such as l2=1.5")
    return threats[0]


def two_generators(
    config: SoupsConfig, other: attacks.Threat, dataset: Dataset
) -> tuple[Sampler, Sampler]:
    """The generators of both norms: of one seed, so of one random prior, and of one base."""
    folder = config.work / config.train.adversary.norm
    first = generator(folder, config.train, dataset)
    base = None if config.train.base is None else str(folder / BASE)
    settings = config.train.replace(norm=other.norm, epsilon=other.epsilon, base=base)
    return first, generator(config.work / other.norm, settings, dataset)


def row(
    evaluator: Evaluator, population: Population, dataset: Dataset, **at: float
) -> dict[str, Any]:
    """The figures of networks: accuracy and SRA in each norm, by its name; of several the union.

    at: how they were made. disagreement: None of one network.
    """
    networks = []
    for found in evaluator.evaluate(population, dataset):
        alone = {evaluator.threat.norm: found["sra"]}
        norms = {**found["norms"], "union": found["union"]} if evaluator.others else alone
        networks.append({"accuracy": found["accuracy"], **norms})
    classes = predictions(population, dataset.test.first(len(dataset.test))[0])
    differing = disagreement(classes) if len(population) > 1 else None
    return {**at, "networks": networks, "disagreement": differing}


def judged(
    config: SoupsConfig, one: Sampler, other: Sampler, threat: attacks.Threat, dataset: Dataset
) -> dict[str, list[dict[str, Any]]]:
    """The rows of every way to make networks."""
    cache = ResultsCache(config.work / "soups.masks.jsonl")  # so that ends are judged once
    evaluator = Evaluator(
        config.train.threat, "standard", restarts=1, images=config.images, cache=cache
    )
    images = dataset.calibration_images(CALIBRATION_IMAGES)
    samples = {beta: one.sample(config.samples, beta, SEED) for beta in config.betas}
    low, high = config.betas[0], config.betas[-1]
    found: dict[str, list[dict[str, Any]]] = {GENERATED: [], OF_BETAS: [], OF_Z: [], OF_NORMS: []}
    for beta, population in samples.items():
        share = (beta - low) / (high - low)
        mixed = soup(samples[low], samples[high], share, images)
        halfway = soup(population[:-1], population[1:], 0.5, images)
        found[GENERATED].append(row(evaluator, population, dataset, beta=beta))
        found[OF_BETAS].append(row(evaluator, mixed, dataset, share=share))
        found[OF_Z].append(row(evaluator, halfway, dataset, beta=beta, share=0.5))
    evaluator = replace(evaluator, others=(threat,))
    ends = [sampler.sample(config.samples, config.beta, SEED) for sampler in (one, other)]
    for share in config.shares:
        mixed = soup(ends[0], ends[1], share, images)
        found[OF_NORMS].append(row(evaluator, mixed, dataset, share=share))
    return found


def means(row: Mapping[str, Any]) -> dict[str, float]:
    """The means of a row's networks, by figure."""
    names = row["networks"][0]
    return {name: statistics.fmean(each[name] for each in row["networks"]) for name in names}


def barriers(rows: Rows) -> dict[str, float]:
    """By figure, the highest barrier between the two ends of any pair; a row a share."""
    shares = [row["share"] for row in rows]
    pairs = [*zip(*(row["networks"] for row in rows), strict=True)]
    return {
        name: max(barrier(shares, [each[name] for each in pair]) for pair in pairs)
        for name in pairs[0][0]
    }


def summary(found: Mapping[str, Rows], num_classes: int) -> dict[str, dict[str, Any]]:
    """By way: the hypervolume of the means of its rows, and its barriers.

    Of accuracy and the SRA of each norm. Beside soups stand their two ends alone.
    """

    def volume(rows: Rows) -> float:
        points = [[v for name, v in means(row).items() if name != "union"] for row in rows]
        return hypervolume(points, num_classes)

    generated, of_norms = found[GENERATED], found[OF_NORMS]
    at_betas = []
    for ends, halfway in zip(generated, found[OF_Z], strict=True):
        first = {"share": 0, "networks": ends["networks"][:-1]}
        at_betas.append(barriers([first, halfway, {"share": 1, "networks": ends["networks"][1:]}]))
    between_z = {name: max(each[name] for each in at_betas) for name in at_betas[0]}
    norm_ends = [row for row in of_norms if row["share"] in (0, 1)]
    return {
        GENERATED: {"hypervolume": volume(generated)},
        "its two ends": {"hypervolume": volume([generated[0], generated[-1]])},
        OF_BETAS: {"hypervolume": volume(found[OF_BETAS]), "barrier": barriers(found[OF_BETAS])},
        OF_Z: {"hypervolume": volume(found[OF_Z]), "barrier": between_z},
        OF_NORMS: {"hypervolume": volume(of_norms), "barrier": barriers(of_norms)},
        "their two ends": {"hypervolume": volume(norm_ends)},
    }


def tables(found: Mapping[str, Rows], reached: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """A row a group of networks; then a row a way to make them."""
    figures = [*found[OF_NORMS][0]["networks"][0]]
    lines = []
    for way, rows in found.items():
        for each in rows:
            at = ", ".join(f"{name} {each[name]:g}" for name in ("beta", "share") if name in each)
            shares = {**means(each), "disagreement": each["disagreement"]}
            shown = [percent(shares.get(name), 1) for name in (*figures, "disagreement")]
            lines.append((f"{way}, {at}", *shown))
    notes = ["% of test images, means of networks; norms: SRA; union: withstands both"]
    first = Table(("networks", *figures, "disagreement"), lines, notes)
    lines = []
    for way, each in reached.items():
        lost = each.get("barrier", {})
        shown = [percent(lost.get(name), 1) for name in figures]
        lines.append((way, percent(each["hypervolume"]), *shown))
    notes = [
        "hypervolume of accuracy and of each norm's SRA, % of all that is better than guessing",
        "barriers: the highest of a pair of networks, in points; below 2 of accuracy: one basin",
    ]
    heads = "hypervolume", *(f"barrier of {name}" for name in figures)
    return [first, Table(("networks", *heads), lines, notes)]


def main(config: SoupsConfig) -> None:
    """Trains, mixes and judges, prints the tables and writes the figures."""
    threat = require(config)
    settings = ensure_same_settings(config.work, config)
    dataset = load(config.train.data, device())
    found = judged(config, *two_generators(config, threat, dataset), threat, dataset)
    reached = summary(found, dataset.num_classes)
    print(*tables(found, reached), sep="\n\n")
    publish(config.out, settings, {"rows": found, "summary": reached})


if __name__ == "__main__":
    run(main, SoupsConfig, __doc__, QUICK)
