"""Cases of the part "commands": lines made of every option that the command line itself knows."""

import importlib
import shlex
import typing
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import NoneType
from typing import Any, Literal

from hypergen.cli.main import COMMANDS
from hypergen.cli.options import POSITIONAL, UNMARKED, Command
from hypergen.registry import Registry
from hypergen.settings import Field, Registered, fields
from scripts.bench.fuzz import scene
from scripts.bench.fuzz.case import Case, command
from scripts.bench.fuzz.files import figures

WEIGHTS = dict.fromkeys(COMMANDS, 4) | {"sweep": 2, "list": 1, "export": 3, "explore": 0}
"""How often each command is drawn: never one that serves a page until somebody ends it."""
START: dict[str, Sequence[str]] = {
    "train": [f"{scene.TRAIN} --no-baseline --out new", f"{scene.TRAIN} --out new", "--resume"],
    "sample": [
        "run --count 2",
        "run --count 2 --keep 1 --images 4",
        "unfinished --count 1",
        "ranged --count 1 --beta 0:1:2",
        "ranged --count 1 --accuracy-at-least 0.05",
    ],
    "search": [
        "run --candidates 3 --budget 2 --keep 1 --images 4 --method random",
        "ranged --candidates 12 --budget 2 --keep 1 --images 4",
        "unfinished --candidates 2 --budget 1 --keep 1 --images 2 --method nsga2",
    ],
    "evaluate": [
        f"run {scene.EVALUATE} --json o.json",
        f"run base.safetensors {scene.EVALUATE} --json o.json",
        f"plain.pt --target mlp --dataset digits {scene.EVALUATE}",
        f"mine --plugin my_net.py {scene.EVALUATE}",
    ],
    "compare": [
        f"run base.safetensors {scene.EVALUATE} --json o.json",
        f"run ranged mine --plugin my_net.py {scene.EVALUATE} --picture o.png",
        f"sweep run {scene.EVALUATE}",
    ],
    "analyze": [
        "run --images 4 --steps 2 --what activations",
        "base.safetensors mine --plugin my_net.py --images 4 --steps 2 --out new",
    ],
    "report": [
        "run --format md",
        "run --data-dir nowhere",
        "sweep --out o.html",
        f"run base.safetensors {scene.EVALUATE} --format md --out o.md",
    ],
    "transfer": [
        f"run {scene.EVALUATE} --json o.json",
        f"run mine --plugin my_net.py {scene.EVALUATE} --picture o.png",
    ],
    "baseline": [
        "--target mlp --epochs 1 --out new",
        "--target mlp --method fbf --epochs 1 --out new",
        "--dataset folder:pets --target my_net.py:Mine --epsilon 0.1 --epochs 1 --out new",
        f"{scene.BASELINE} --resume --out half",
    ],
    "sweep": [
        f"{scene.TRAIN} --trials 1 --out new",
        scene.SWEEP.removeprefix("sweep "),
        f"{scene.TRAIN} --trials 1 --out new --storage sqlite:///s.db",
        f"{scene.TRAIN} --trials 2 --pruner halving --out new",
    ],
    "board": [
        "add base.safetensors --images 4 --out new",
        "add plain.pt --target mlp --dataset digits --images 4 --out new --name x",
    ],
    "card": ["base.safetensors --out new", "run/samples/sample-0000.safetensors --out new"],
    "export": ["run --format safetensors", "base.safetensors --format pt2 --out o.pt2"],
    "list": ["", "target", "attack", "data-set"],
}
"""Lines that work, and take little; they are what options are added to."""
INTEGERS = (
    ["1", "2", "3", "4"],
    ["0", "-1", "5", "7", "100"],
    ["1e3", "1_0", "０", "2**3", "0x1", "9999999999", "1"],
)
HUGE = str(10**19), "1" + "0" * 400, "1" + "0" * 5000, str(2**62), str(2**31)
FLOATS = (
    ["0.1", "0.5", "8/255", "1e-3"],
    ["0", "-0.0", "1", "-1", "2", "1e-30", "1/3"],
    ["nan", "inf", "-inf", "1e400", "1e308", "1/0", "0.1.2", "1e-320", "١", "0,5", "none"],
)
TEXTS = (
    ["x", "none", "auto", "base.safetensors", "linf=0.1,l2=0.5", "beta=0:1", "0:1", "steps=1,2"]
    + ["0:1:3"],
    ["", " ", "a b", "=", ":", ",", "beta=", "=1", "linf=", "0:1:2", "a=1:2:log", "beta=1:0"],
    ["x" * 5000, "a\nb", "\x1b[31mred", "\udcff", "--", "-", "ünïcode", "%s{}", "../.."],
)
PATHS = (
    ["new", "o.json", "run", "base.safetensors", "plain.pt", "images.npz", "my_net.py", "half"],
    ["nowhere", "run/config.json", "unfinished", "sweep", "pets", ".", "new/a/b", "o.png", "mine"]
    + ["ranged"],
    ["", "/proc/x", "x" * 300, "\udcff", "~nosuchuser/x", "/proc", "a\nb", "*", "-", "new/"],
)
NAMES = "mlp2", "", "standardd", "torchattacks:FGSM", "torchattacks:X", "my_net.py:Mine", "a:b"
SETS = "folder:pets", "npz:images.npz", "torchvision:FakeData", "folder:", "npz:run", "mnist"


def draw(rng: Random, name: str, corpus: Path) -> Case:
    """A case in the working directory, to which is copied what the line may read."""
    words = line(rng)
    text = f"hypergen {' '.join(shlex.quote(word) for word in words)}"
    scene.copy_named(corpus, text)
    return Case(name, ascii(text)[1:-1], lambda: command(words), lambda outcome: figures())


def line(rng: Random) -> list[str]:
    """The words of a command line."""
    if rng.random() < 0.03:
        return rng.choices([*COMMANDS, "--help", "--version", "x", "", "-h", "\udcff"], k=2)
    verb = rng.choices(list(COMMANDS), [WEIGHTS[each] for each in COMMANDS])[0]
    made: Command = importlib.import_module(f"hypergen.cli.{verb}").COMMAND
    known = [field for cls in (made.own, *made.settings.values()) for field in fields(cls)]
    words = rng.choice(START[verb]).split() if rng.random() < 0.95 else []
    for field in rng.choices(known, k=rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        words += option(field, rng)
    if rng.random() < 0.1:
        words = _disturbed(words, rng)
    return [verb, *words]


def option(field: Field, rng: Random) -> list[str]:
    """The words of an option with a value, or of an argument without one."""
    value = _value(field, rng)
    if field.short in POSITIONAL:
        return [value]
    flag = f"--{field.short.replace('_', '-')}"
    if field.kind is bool:
        return [rng.choice([flag] * 8 + [flag.replace("--", "--no-", 1), f"{flag}=1"])]
    return [f"{flag}={value}"] if rng.random() < 0.3 else [flag, value]


def _value(field: Field, rng: Random) -> str:
    kinds = [each for each in typing.get_args(field.kind) or [field.kind] if each is not NoneType]
    kind: Any = field.kind if typing.get_origin(field.kind) is Literal else kinds[0]
    if typing.get_origin(kind) is Literal:
        return rng.choice([*typing.get_args(kind)] * 3 + ["", "X", typing.get_args(kind)[0] + "x"])
    mark = field.mark(Registered)
    registry: Registry | None = mark.registry if mark else UNMARKED.get(field.short)
    if registry is not None:
        odd = (*SETS, *NAMES) if "data" in registry.kind else NAMES
        return rng.choice(registry.names() * 2 + list(odd))
    if field.short == "plugin":
        return rng.choice(("my_net.py", "nowhere.py", "math", "os.path", "", "run", "a b", "/"))
    pools = {int: INTEGERS, float: FLOATS, Path: PATHS}.get(kind, TEXTS)
    if kind is int and rng.random() < 0.1:
        return rng.choice(HUGE)
    return rng.choice(rng.choices(pools, (5, 3, 2))[0])


def _disturbed(words: list[str], rng: Random) -> list[str]:
    """The same with a word dropped, doubled, cut short, or exchanged for another."""
    words = [*words]
    if words:
        at = rng.randrange(len(words))
        cut = words[at][: rng.randrange(len(words[at]) + 1)]
        words[at : at + 1] = rng.choice(([], [words[at]] * 2, [cut], rng.choices(words, k=2)))
    return words
