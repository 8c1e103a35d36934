"""Cases of the part "api": lines of Python that hypothesis draws, each a call of the public API."""

import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import attacks
from hypergen.config import TrainConfig
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.experiments.run_folder import ReportConfig
from hypergen.settings import Settings, fields
from hypergen.training.direct_config import BaselineConfig
from scripts.bench.fuzz import scene
from scripts.bench.fuzz.case import Case, python
from scripts.bench.fuzz.modules import modules
from scripts.bench.fuzz.values import (
    EPSILON,
    IMAGES,
    INDICES,
    LABELS,
    MODELS,
    NORM,
    NUMBERS,
    PATHS,
    SEEDS,
    SMALL,
    WORDS,
    Text,
    pool,
)


def keywords(known: Mapping[str, Text], most: int = 3, unknown: str = "nonsense") -> Text:
    """Up to `most` of the options, as `, name=value`; now and then one that nobody knows."""
    names = st.lists(st.sampled_from([*known, unknown]), unique=True, max_size=most)
    values = dict(known) | {unknown: NUMBERS}
    return names.flatmap(
        lambda some: st.tuples(*(values[name].map(f", {name}={{}}".format) for name in some))
    ).map("".join)


def form(text: str, **parts: Text) -> Text:
    """The text with a drawn one in the place of each {name}."""
    return st.fixed_dictionaries(parts).map(lambda drawn: text.format(**drawn))


def of_settings(cls: type[Settings], but: Iterable[str] = ()) -> dict[str, Text]:
    """Values for every setting, right and wrong ones; `but` those that would take long."""
    values = st.one_of(SMALL, NUMBERS, WORDS)
    return {each.short: values for each in fields(cls) if each.short not in but}


BRIEF = {"queries": "50", "schedule": "((2, 4),)", "searches": "2"}
"""Options by whose defaults an attack would be interrupted before it could be judged."""


@functools.cache
def of_attack(name: str) -> Text:
    """Options of an attack, whatever it has; `BRIEF` ones that are not drawn."""
    parameters = [*inspect.signature(attacks.ATTACKS[name]).parameters][1:]
    known = {each: st.one_of(SMALL, NUMBERS, pool("0.05 | 'ce' | 'dlr'")) for each in parameters}
    brief = {each: text for each, text in BRIEF.items() if each in known}

    def completed(drawn: str) -> str:
        return drawn + "".join(f", {n}={v}" for n, v in brief.items() if f", {n}=" not in drawn)

    drawn = keywords({each: text for each, text in known.items() if each != "options"})
    return drawn.map(completed)


def attack_calls() -> Text:
    """Calls of `hypergen.attack` by name."""

    def named(name: str) -> Text:
        how = keywords({"norm": NORM, "seed": NUMBERS}, 2, "folly")
        return form(
            f"attacked({name!r}, {{m}}, {{x}}, {{y}}, epsilon={{e}}{{o}}{{n}})",
            m=MODELS, x=IMAGES, y=LABELS, e=EPSILON, o=of_attack(name), n=how,
        )  # fmt: skip

    return st.sampled_from(list(attacks.ATTACKS)).flatmap(named)


def attack_objects() -> Text:
    """Attacks made by their classes and called on two networks at once."""
    classes = [each for each in attacks.ATTACKS if inspect.isclass(attacks.ATTACKS[each])]

    def made(name: str) -> Text:
        return form(
            f"perturbed(attacks.{attacks.ATTACKS[name].__name__}(Threat({{norm}}, {{e}}){{o}}), "  # type: ignore
            "packed({m}), torch.stack([{x}] * 2), {y}, {s})",
            norm=NORM, e=EPSILON, o=of_attack(name), m=MODELS, x=IMAGES, y=LABELS, s=SEEDS,
        )  # fmt: skip

    return st.sampled_from(classes).flatmap(made)


BASELINE = "h.baseline(target='mlp', epochs=1, out='new'{o})"
LONG = ("steps", "epochs", "population", "batch_size", "samples", "images", "restarts", "dataset")
CALLS: dict[str, tuple[int, Text]] = {
    "attack": (6, attack_calls()),
    "attack objects": (5, attack_objects()),
    "universal": (
        2,
        form(
            "attacks.{c}(Threat({n}, {e}){o}).fit(packed({m}), torch.stack([{x}] * 2), {y}, {s})",
            c=pool("UniversalGradient | UniversalDeepFool"),
            n=NORM,
            e=EPSILON,
            o=keywords({"steps": SMALL, "epochs": SMALL, "passes": SMALL, "batch_size": NUMBERS}),
            m=MODELS,
            x=IMAGES,
            y=LABELS,
            s=SEEDS,
        ),  # fmt: skip
    ),
    "odd attack": (1, form("attacked({w}, linear, images, labels, epsilon=0.1)", w=WORDS)),
    "config": (
        4,
        form(
            "h.{c}.of(**dict({o}))",
            c=pool("TrainConfig | BaselineConfig | ReportConfig"),
            o=keywords(of_settings(BaselineConfig) | of_settings(ReportConfig)).map(
                lambda o: o[2:]
            ),
        ),
    ),
    "settings": (
        3,
        form(
            "config.replace(**dict({o}))",
            o=keywords(of_settings(TrainConfig)).map(lambda o: o[2:]),
        ),
    ),
    "evaluate": (
        5,
        form(
            "judged({n}, {d}{o})",
            n=st.one_of(MODELS, PATHS, pool("own(size=64)")),
            d=st.one_of(pool("'digits'"), WORDS),
            o=keywords(of_settings(EvaluateConfig, LONG)),
        ),
    ),
    "train": (
        1,
        form("trained({o})", o=keywords(of_settings(TrainConfig, LONG)).map(lambda o: o[2:])),
    ),
    "baseline": (1, form(BASELINE, o=keywords(of_settings(BaselineConfig, ("epochs", "target"))))),
    "ensemble": (1, form("h.ensemble({m})({x})", m=MODELS, x=IMAGES)),
    "index": (2, form("indexed(population, {i})", i=INDICES)),
    "population": (
        2,
        form(
            "population{c}",
            c=st.one_of(
                form("({x})", x=st.one_of(IMAGES, IMAGES.map("torch.stack([{}] * 3)".format))),
                form(".choose({i})", i=pool("[0, 1] | [] | (2, 0) | torch.tensor([1]) | range(3)")),
                form(".with_theta({x})", x=IMAGES),
                form(".recalibrate({x}, {n})", x=IMAGES, n=NUMBERS),
            ),
        ),
    ),
    "population of": (
        1,
        form("Population.of({m})(torch.stack([images] * 1))", m=MODELS.map("[{}]".format)),
    ),
    "same": (8, form("same(lambda: ({m}))", m=modules())),
    "export": (
        2,
        form(
            "h.export({m}, {p}{o})",
            m=MODELS,
            p=pool(
                "'o.safetensors' | 'o.pt2' | 'o.x' | None | '' | 'no/o.safetensors' | 'run'",
            ),
            o=keywords(
                {
                    "input_shape": pool(
                        "(1, 4, 4) | (1, 8, 8) | (4, 4) | None | 3 | (0, 1, 2) | [1, 4, 4]",
                    ),
                    "int8": NUMBERS,
                    "format": WORDS,
                }
            ),
        ),
    ),
    "load network": (2, form("h.load_network({p})", p=PATHS)),
    "load generator": (
        1,
        form("h.load_generator({p}{d})", p=PATHS, d=pool(" | , None | , 3 | , 'digits'")),
    ),
    "sample": (
        2,
        form(
            "h.load_generator('run').sample({n}{o})",
            n=st.one_of(SMALL, NUMBERS),
            o=keywords({"beta": NUMBERS, "seed": NUMBERS}),
        ),
    ),
    "data": (
        3,
        form(
            "h.load_dataset({n}{o})",
            n=st.one_of(
                WORDS,
                PATHS,
                pool(
                    "'folder:pets' | 'npz:images.npz' | 'npz:' | 'torchvision:X' | 'mnist'",
                ),
            ),
            o=keywords(
                {"data_dir": PATHS, "device": WORDS, "image_size": NUMBERS, "grey": NUMBERS}
            ),
        ),
    ),
    "plugin": (1, form("h.load_plugin({p})", p=st.one_of(PATHS, pool("'my_net.py' | 'math'")))),
    "register": (
        2,
        form(
            "h.register_{k}({n})({t})",
            k=pool(
                "target | activation | dataset | attack | generator | value_network",
            ),
            n=WORDS,
            t=st.one_of(MODELS, pool("3 | None | Own | 'x'")),
        ),
    ),
}
"""What is called -> how often, and the lines."""


def lines() -> Text:
    """A line of Python."""
    return st.sampled_from([n for n, (often, _) in CALLS.items() for _ in range(often)]).flatmap(
        lambda name: CALLS[name][1]
    )


def drawn(strategy: SearchStrategy[Any], number: int) -> Any:
    """What hypothesis draws by that seed."""
    found = []

    # The first example of a seed is always the simplest there is.
    @seed(number)
    @settings(
        max_examples=2,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
    )
    @given(strategy)
    def draw_twice(example: Any) -> None:
        found.append(example)

    draw_twice()
    return found[-1]


def draw(rng: Random, name: str, corpus: Path) -> Case:
    """A case in the working directory, to which is copied what the line names."""
    line = drawn(lines(), rng.getrandbits(64))
    scene.copy_named(corpus, line)
    names = importlib.import_module("scripts.bench.fuzz.names")
    importlib.reload(names)  # a line may change what it names
    return Case(name, line, lambda: python(line, dict(vars(names))))
