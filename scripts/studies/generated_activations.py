"""Generated networks beside FBF-trained ones, for every activation.

For each activation there are samples of a generator of small-lenet5 for MNIST at epsilon 0.1 and
three FBF networks. All are judged by standard robust accuracy and, where a gradient misleads as
k-WTA's does, by a sampled one (`--attack adaptive`). Every network is made and judged by `hypergen`
commands whose files are kept: a killed run goes on. `scripts/on_gpu.sh` has the same for ResNet-20
on CIFAR-10.

    HYPERGEN_DATA=... python -m scripts.studies.generated_activations
"""

import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypergen.errors import InputError
from hypergen.report.scatter import scatter
from hypergen.storage.atomic import read_json
from scripts.common import (
    RESULTS,
    cell,
    chosen,
    ensure_same_settings,
    hypergen,
    publish,
    run,
    train_or_load,
    try_all,
)


@dataclass(frozen=True)
class StudyConfig:
    """What is trained, and how it is judged."""

    quick: bool = False
    """steps, epochs, networks and images cut down to minutes on two cores"""
    dataset: str = "mnist"
    """data set"""
    target: str = "small-lenet5"
    """architecture"""
    activations: tuple[str, ...] = ("relu", "swish", "elu", "kaf", "kaf-swish", "kwta-0.2")
    """compared"""
    ways: tuple[str, ...] = ("direct",)
    """of training the generators: an objective, or "OBJECTIVE from fbf", from an FBF network"""
    steps: int = 3000
    """of each generator"""
    epochs: int | None = None
    """of each FBF network; default: the recipe's"""
    samples: int = 8
    """networks drawn from each generator"""
    seeds: int = 3
    """FBF networks of each activation"""
    images: int = 500
    """test images attacked; accuracy is over all"""
    train: str = ""
    """further options of `hypergen train`, as on its command line"""
    evaluate: str = "--attack adaptive --restarts 1"
    """how `hypergen evaluate` attacks"""
    only: tuple[str, ...] = ()
    """activations to run now, beside those run before; default: all"""
    work: Path = Path("runs/study-generated-activations")
    """folder of the networks and their figures"""
    out: Path = RESULTS / "generated-activations.json"
    """the figures as JSON; the picture is written beside it"""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of networks, of each activation; those that others may start from first."""
        return ("fbf", *self.ways)


QUICK = StudyConfig(quick=True, steps=200, epochs=1, samples=2, seeds=1, images=20)


def networks(config: StudyConfig, kind: str, activation: str) -> list[Path]:
    """The weight files of one kind with one activation, made unless they are there."""
    what = ["--dataset", config.dataset, "--target", config.target, "--activation", activation]
    if kind != "fbf":
        objective, _, start = kind.partition(" from ")
        base = ["--base", str(networks(config, start, activation)[0])] if start else []
        train = ["--objective", objective, "--steps", str(config.steps), *base, "--no-baseline"]
        train += shlex.split(config.train)
        sizes = ["--samples", str(config.samples), "--images", "1", "--sra-samples", "0"]
        folder = config.work / f"{kind.replace(' ', '-')}-{activation}"
        return train_or_load(folder, ["train", *what, *train, *sizes])
    epochs = [] if config.epochs is None else ["--epochs", str(config.epochs)]
    fbf = ["baseline", *what, "--method", "fbf", *epochs]
    files = []
    for seed in range(config.seeds):
        folder = config.work / f"fbf-{activation}-{seed}"
        files += train_or_load(folder, [*fbf, "--seed", str(seed)])
    return files


def row(config: StudyConfig, kind: str, activation: str) -> dict[str, Any]:
    """Mean figures of one kind with one activation, and each network's."""
    files = networks(config, kind, activation)
    path = cell(config.work, f"{kind} {activation}")
    if not path.exists():
        options = [*shlex.split(config.evaluate), "--images", str(config.images)]
        hypergen(["evaluate", *map(str, files), *options, "--json", str(path)])
    judged = read_json(path)["networks"]
    return {
        "count": len(judged),
        **{
            key: statistics.fmean(network[key] for network in judged)
            for key in ("accuracy", "pgd", "robustness", "outside_dictionary")
            if key in judged[0]
        },
        "after": {
            name: statistics.fmean(network["after"][name] for network in judged)
            for name in judged[0]["after"]
        },
        "networks": [
            {"kind": f"{activation}, {kind}", **{k: n[k] for k in ("accuracy", "robustness")}}
            for n in judged
        ],
    }


def main(config: StudyConfig) -> None:
    """Makes and judges all, prints the table, writes and draws it."""
    for way in config.ways:
        if way.partition(" from ")[2] not in ("", "fbf"):
            raise InputError(f'expected an objective or "OBJECTIVE from fbf", got "{way}"')
    settings = ensure_same_settings(config.work, config)

    def cells(name: str) -> list[Path]:
        return [cell(config.work, f"{kind} {name}") for kind in config.kinds]

    pairs = {
        f"{name}, {kind}": (kind, name)
        for name in chosen(config.only, config.activations, cells)
        for kind in config.kinds
    }
    rows, failed = try_all(pairs, lambda pair: row(config, *pairs[pair]))
    show(rows)
    points = [point for found in rows.values() for point in found.pop("networks")]
    title = (
        "Generators of networks with each activation, and FBF networks, a point a network\n"
        f"{config.dataset}, {config.target}, judged by {config.evaluate}, on {config.images} test "
        "images"
    )
    picture = scatter(points, "robustness", title)
    publish(config.out, settings, {"summary": rows, "networks": points}, failed, picture)


def show(rows: dict[str, Any]) -> None:
    """Prints the table; outside: inputs beyond a KAF's dictionary, in the layer that has most."""
    heads = "".join(f"{head:>12}" for head in ("accuracy", "PGD", "robustness", "outside"))
    print(f"\n{'':<24}{'nets':>5}{heads}  left after each")
    for name, found in rows.items():
        shown = [found[key] for key in ("accuracy", "pgd", "robustness")]
        shown.append(found.get("outside_dictionary", 0.0))
        after = "  ".join(f"{attack} {100 * left:.1f}" for attack, left in found["after"].items())
        print(
            f"{name:<24}{found['count']:>5}"
            + "".join(f"{100 * value:>12.2f}" for value in shown)
            + f"  {after}"
        )


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
