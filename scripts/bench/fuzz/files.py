"""Cases of the part "files": a file with something changed, opened by the commands that read it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from scripts.bench.fuzz import contents, mutations, scene
from scripts.bench.fuzz.case import Case, Outcome, command, wrong_figures
from scripts.bench.fuzz.mutations import Mutation

NEW = "--target mlp --epochs 1 --epsilon 0.1 --out new"
RESUME = "train --resume --no-baseline --out"


@dataclass(frozen=True)
class Kind:
    """A kind of file: those changed, what is needed beside them, and what opens them.

    expect: figures, as JSON, that the command must not give otherwise when it ends with status 0.
    """

    files: str
    beside: Sequence[str]
    commands: Sequence[str]
    ways: Sequence[Mutation]
    expect: str | None = None


TENSORS = mutations.safetensors_header, contents.safetensors_tensors
JSON = (mutations.json_file,) * 3
JUDGE = scene.EVALUATE
KINDS: Mapping[str, Kind] = {
    "weights": Kind(
        "base.safetensors",
        ["run"],
        [
            f"evaluate base.safetensors {JUDGE} --json o.json",
            f"evaluate base.safetensors run {JUDGE} --attack quick",
            "export base.safetensors --format safetensors --out o.safetensors",
            f"transfer base.safetensors run {JUDGE} --json o.json",
            f"train {scene.TRAIN} --no-baseline --base base.safetensors --out new",
        ],
        TENSORS,
    ),
    "sample": Kind(
        "run/samples/*",
        ["run"],
        [f"evaluate run {JUDGE} --ensemble", f"transfer run {JUDGE}", "sample run --count 1"],
        TENSORS,
    ),
    "pt": Kind(
        "plain.pt",
        [],
        [f"evaluate plain.pt --target mlp --dataset digits {JUDGE}"],
        [contents.pickled],
    ),
    "plain": Kind(
        "plain.safetensors",
        [],
        [f"evaluate plain.safetensors --target mlp --dataset digits {JUDGE}"],
        TENSORS,
    ),
    "config": Kind(
        "run/config.json",
        ["run"],
        ["sample run --count 1", f"evaluate run {JUDGE}", f"{RESUME} run"],
        JSON,
    ),
    "unfinished": Kind("unfinished/config.json", ["unfinished"], [f"{RESUME} unfinished"], JSON),
    "results": Kind(
        "run/results.json", ["run"], [f"{RESUME} run", f"{RESUME} run --images 5"], JSON
    ),
    "checkpoint": Kind(
        "unfinished/checkpoint.safetensors",
        ["unfinished"],
        [f"{RESUME} unfinished", "sample unfinished --count 1"],
        [mutations.safetensors_header, contents.checkpoint_tree, contents.checkpoint_tree],
    ),
    "training": Kind(
        "half/*.safetensors",
        ["half"],
        [f"baseline {scene.BASELINE} --resume --out half"],
        [mutations.safetensors_header, contents.checkpoint_tree, contents.checkpoint_tree],
    ),
    "metrics": Kind("unfinished/metrics.jsonl", ["unfinished"], [f"{RESUME} unfinished"], JSON),
    "events": Kind("unfinished/events*", ["unfinished"], [f"{RESUME} unfinished"], []),
    "journal": Kind(
        "sweep/optuna.journal", ["sweep"], [scene.SWEEP, f"{scene.SWEEP} --trials 2"], JSON
    ),
    "sweep": Kind("sweep/sweep.json", ["sweep"], [scene.SWEEP], JSON),
    "sweep results": Kind(
        "sweep/results.json", ["sweep", "run"], [scene.SWEEP, f"compare sweep run {JUDGE}"], JSON
    ),
    "trial": Kind(
        "sweep/trial-0000/*.json", ["sweep"], [scene.SWEEP, f"{scene.SWEEP} --trials 2"], JSON
    ),
    "cache": Kind(
        "figures.masks.jsonl",
        ["run"],
        [f"evaluate run {JUDGE} --json figures.json"],
        JSON,
        expect="figures.json",
    ),
    "npz": Kind(
        "images.npz",
        ["base.safetensors"],
        [
            f"baseline --dataset npz:images.npz {NEW}",
            f"evaluate base.safetensors --dataset npz:images.npz {JUDGE}",
        ],
        [contents.npz] * 3,
    ),
    "pictures": Kind(
        "pets/class[0-3]/*.png",
        ["pets"],
        [
            f"baseline --dataset folder:pets {NEW}",
            f"baseline --dataset folder:pets --image-size 9 --grey {NEW}",
        ],
        [contents.png],
    ),
    "plugin": Kind(
        "my_net.py",
        ["mine"],
        [
            "list --plugin my_net.py",
            f"evaluate mine/network.safetensors --plugin my_net.py {JUDGE}",
            "baseline --target my_net.py:Mine --epochs 1 --out new",
            "baseline --target mlp --activation square --plugin my_net.py --epochs 1 --out new",
            "baseline --dataset noise --plugin my_net.py --target mlp --epochs 1 --epsilon 0.1",
        ],
        [contents.source] * 4,
    ),
}


def draw(rng: Random, name: str, corpus: Path) -> Case:
    """A case in the working directory, which is empty: copies what is needed, and changes it."""
    title = rng.choice(list(KINDS))
    kind = KINDS[title]
    changed = sorted(corpus.glob(kind.files))
    own = [str(path.relative_to(corpus)) for path in changed]
    scene.copy(corpus, [*kind.beside, *own])
    pool = [corpus / each for each in ("base.safetensors", "run/config.json", "images.npz")]
    ways = [*kind.ways, mutations.raw]
    if rng.random() < 0.05:
        ways = [mutations.place]
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        path = Path(rng.choice(own))
        if not path.is_file() or path.is_symlink():
            break
        try:
            done.append(f"{path}: {rng.choice(ways)(path, rng, pool)}")
        except Exception:  # it was changed before, so that it is no such file any more
            done.append(f"{path}: {mutations.raw(path, rng, pool)}" if path.is_file() else "")
    line = rng.choice(kind.commands)
    check: Callable[[Outcome], list[str]] = lambda outcome: figures()  # noqa: E731
    if kind.expect is not None:
        check = partial(same_figures, json.loads((corpus / kind.expect).read_text()))
    return Case(name, f"{'; '.join(done)}; hypergen {line}", lambda: command(line.split()), check)


def figures() -> list[str]:
    """What is wrong with the figures in the JSON files that a command has written."""
    found = []
    for path in [*Path().glob("*.json"), *Path().glob("new/*.json")]:
        if path.is_file():
            found += wrong_figures(json.loads(path.read_text()))
    return found


def same_figures(expected: dict[str, Any], outcome: Outcome) -> list[str]:
    """Where figures that were given before, and stand in a file beside, are others now."""
    path = Path("figures.json")
    if outcome.status != 0:
        return []
    rows = json.loads(path.read_text())["networks"]
    return [
        f"figure: {key} of {row['file']} is {row.get(key)}, and was {before[key]}"
        for row, before in zip(rows, expected["networks"], strict=True)
        for key in ("accuracy", "pgd", "robustness")
        if row.get(key) != before[key]
    ]
