"""Everything that decides what a run or a sweep computes, as frozen dataclasses."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self

from tyro.conf import UseAppendAction, arg

import attacks
import targets
from attacks.threat import NORMS
from hypergen import data
from hypergen.errors import InputError, nearest
from hypergen.measure import MEASURERS
from hypergen.recipe import recipe_for
from hypergen.tracking import write_text

CONFIG = "config.json"
"""The file in a run's folder that holds its `TrainConfig`."""

OBJECTIVES = ("value", "direct", "hybrid")
VALUE_NETWORKS = ("set", "mlp", "statistics", "probe")
GENERATORS = ("auto", "dense", "chunk", "published")
BASE_METHODS = ("standard", "fbf", "pgd")

PRESETS: dict[str, dict[str, Any]] = {
    # The protocol of Ballarin 2020; the threat's epsilon and the attack's steps are ours.
    "thesis": {
        "dataset": "mnist",
        "objective": "value",
        "value_network": "mlp",
        "generator": "published",
        "base": "standard",
        "steps": 1000,
        "population": 1,
        "measurer": "pgd",
        "attack_steps": 10,
        "epsilon_factor": 1.0,
        "growth": 0.0,
        "batch_size": 10_000,
        "replay": 1,
        "value_steps": 1,
        "perturbed": 0,
        "learning_rate": 0.01,
        "weight_decay": 0.005,
        "value_learning_rate": 0.35,
        "value_weight_decay": 0.015,
        "surprise": 1.0,
        "schedule": "constant",
        "warmup": 1.0,
        "ema_decay": 0.0,
    },
}


@dataclass(frozen=True)
class TrainConfig:
    """What a generator is trained to do, and how. Saved as config.json in the run's folder."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10 or svhn"""
    target: str = "small-lenet5"
    """architecture whose weights are generated: small-lenet5, lenet5, fbf-cnn, mlp, wide-mlp,
    alexnet, resnet18 (torchvision's), vgg, light-cnn, resnet20, resnet56, preactresnet18; the last
    five have batch norm or, as NAME-group and NAME-none, group norm or none"""
    activation: str = "relu"
    """relu, leaky_relu, prelu, elu, gelu, swish, tanh, softplus, kwta-0.2 (or another share), kaf,
    kaf-relu, kaf-elu, kaf-swish, kaf-tanh, kaf-identity, kaf-free, kaf-authors (with their
    constants); of 20 points, or as NAME-40 of another number"""
    objective: str = "direct"
    """where the generator's gradient comes from: the value network (value), the generated network
    itself (direct), or both (hybrid)"""
    value_network: str = "set"
    """what estimates accuracy and robustness: set looks at how the network behaves on images, probe
    on images it learns (slow), mlp at the flat weights, statistics at those of each layer"""
    value_members: int = 1
    """value networks that form an ensemble; from 2 on, an estimate comes with its uncertainty"""
    generator: str = "auto"
    """dense or chunk head (auto: by the target's size), or the published one"""
    beta: str = "0.5"
    """weight of robustness, alpha = 1 - beta of accuracy; a range such as 0:1 trains one generator
    for all preferences in it"""
    norm: str = "linf"
    """norm of the threat: linf, l2 or l1"""
    epsilon: float | None = None
    """radius of the threat, pixels in [0,1]; default in linf: the data set's usual one"""
    base: str | None = None
    """start from this network: a weight file, or standard, fbf or pgd to train one on the spot"""
    steps: int = 1000
    """generator steps"""
    population: int = 4
    """networks generated a step"""
    batch_size: int = 64
    """training images a step, the same for each network"""
    epsilon_factor: float | None = None
    """radius trained against and measured at, relative to epsilon; default: 1.15, on colour images
    1, as of networks trained directly"""
    growth: float = 0.25
    """share of the steps over which that radius is reached, from .6 of it; with 0 it is there from
    the first step, and where it is large networks then learn to hide from gradients"""
    attack_steps: int = 3
    """steps of every gradient attack inside a training step"""
    measurer: str = "pgd"
    """what attacks the images that the value network sees and is fitted to: PGD on cross-entropy
    (pgd) or on the margin, which flatters less and teaches less"""
    surprise: float = 0.1
    """how far the measurer may flatter, against SRA now and then on a few samples, before all
    attacks inside a training step get twice the steps; with 1 nobody looks, which on a GPU is most
    of a short run's time"""
    measure_every: int | None = None
    """steps between measurements; default: 1, with objective direct 8"""
    perturbed: int = 1
    """perturbed copies measured beside the generated networks, at most one of each"""
    replay: int = 512
    """measurements kept for fitting the value network"""
    value_steps: int = 16
    """steps of the value network a measurement"""
    latent_size: int = 16
    """Z, the length of a latent sample"""
    diversity: float = 0.5
    """how far samples start apart, relative to 1/sqrt(fan-in), and what keeps them so; 0 for
    nothing, then they become nearly one network"""
    learning_rate: float = 2e-3
    """of the generator (Adam)"""
    weight_decay: float = 0.0
    """of the generator"""
    value_learning_rate: float = 2e-3
    """of the value network (Adam)"""
    value_weight_decay: float = 0.0
    """of the value network"""
    schedule: str = "cosine"
    """of the generator's learning rate: cosine or constant"""
    warmup: float = 0.2
    """share of the steps over which beta (from scratch) or the spread of z (from a base) grows"""
    ema_decay: float = 0.99
    """of the averaged generator that samples; 0 for none"""
    seed: int = 0
    """of everything random in the run"""

    def __post_init__(self) -> None:
        for field, known in (
            ("dataset", data.names()),
            ("target", targets.TARGETS),
            ("objective", OBJECTIVES),
            ("value_network", VALUE_NETWORKS),
            ("generator", GENERATORS),
            ("measurer", MEASURERS),
            ("schedule", ("cosine", "constant")),
        ):
            require_known(field.replace("_", "-"), getattr(self, field), known)
        require_norm(self.norm)
        targets.activation_factory(self.activation)  # raises TargetError
        self.beta_range  # noqa: B018  (raises when it cannot be read)
        may_be_0 = ("perturbed", "seed")
        require_at_least(self, (field for field in COUNTS if field not in may_be_0), 1)
        require_at_least(self, may_be_0, 0)
        require_seed(self.seed)
        if self.generator == "published" and len(set(self.beta_range)) > 1:
            raise InputError(
                f"the published generator knows no preference: --beta must be one, got {self.beta}"
            )
        for field in ("latent_size", "diversity"):
            if self.generator == "published" and getattr(self, field) != getattr(type(self), field):
                raise InputError(
                    "the published generator has a latent space of its own: leave out "
                    f"--{field.replace('_', '-')}"
                )
        for field in ("learning_rate", "value_learning_rate"):
            if not 0 < getattr(self, field) < 1e30:  # Adam divides it, which must not overflow
                raise InputError(
                    f"--{field.replace('_', '-')} must be above 0 and below 1e30, "
                    f"got {getattr(self, field)}"
                )
        from_0 = ("weight_decay", "value_weight_decay", "diversity", "epsilon_factor")
        require_at_least(self, from_0, 0)
        require_shares(self, ("ema_decay", "growth", "warmup", "surprise"))
        self.threat  # noqa: B018

    @property
    def beta_range(self) -> tuple[float, float]:
        """(lowest, highest) preference for robustness, both in [0,1]; equal when it is fixed."""
        return parse_beta(self.beta)

    @property
    def threat(self) -> attacks.Threat:
        """What the attacks may do to an image."""
        return threat_on(self.dataset, self.norm, self.epsilon)

    @property
    def training_threat(self) -> attacks.Threat:
        """What the attacks of a training step may do."""
        recipe = recipe_for(self.dataset, self.target, self.activation)
        return attacks.Threat(self.norm, recipe.radius(self.threat.epsilon, self.epsilon_factor))

    @property
    def measurement_interval(self) -> int:
        """Steps between measurements: what steers must be fresh, what only watches need not be."""
        return self.measure_every or (8 if self.objective == "direct" else 1)

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote; `InputError` when it cannot be."""
        try:
            values = json.loads(path.read_text())
            return cls(**values)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{path.parent} is not a run: it has no {path.name}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a run's configuration ({error})") from None

    def differences(self, other: Self) -> list[str]:
        """The fields in which two configurations differ, as "name: mine, not theirs"."""
        return differences(asdict(self), asdict(other))


@dataclass(frozen=True)
class SweepConfig:
    """What is varied, how often, and where Optuna keeps it."""

    trials: int = 12
    """finished trials wanted in the storage, those of earlier calls included"""
    workers: int = 1
    """trials at work at once"""
    vary: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=LOW:HIGH[:log]")] = ()
    """what to vary, repeatable: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C;
    default: beta=0:1"""
    storage: str | None = None
    """any Optuna storage URL; default: a journal file in the folder"""

    def __post_init__(self) -> None:
        require_at_least(self, ("trials", "workers"), 1)


COUNTS = [f.name for f in fields(TrainConfig) if f.type in (int, int | None)]


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The settings in `theirs` that are others in `mine`, as "name: mine, not theirs"."""
    return [
        f"{name.replace('_', '-')}: {mine.get(name)}, not {value}"
        for name, value in theirs.items()
        if mine.get(name) != value
    ]


def preset(name: str) -> TrainConfig:
    """The defaults of a named protocol; `InputError` for an unknown one."""
    require_known("preset", name, PRESETS)
    return replace(TrainConfig(), **PRESETS[name])


def threat_on(dataset: str, norm: str, epsilon: float | None) -> attacks.Threat:
    """The threat of that norm and radius; in linf, the data set's usual radius unless given.

    `InputError`: no radius in another norm.
    """
    if epsilon is None and norm != "linf":
        raise InputError(f"--norm {norm} needs an --epsilon: only in linf is one usual")
    return attacks.Threat(norm, data.default_epsilon(dataset) if epsilon is None else epsilon)


def require_seed(seed: int) -> None:
    """`InputError` for a --seed that PyTorch, or what is counted up from it, would not take."""
    if not 0 <= seed < 2**62:
        raise InputError(f"--seed must lie in [0, 2^62), got {seed}")


def require_known(what: str, name: str, known: Any) -> None:
    """`InputError` with the nearest match unless `name` is one of `known`."""
    if name not in known:
        raise InputError(
            f'unknown {what} "{name}"{nearest(name, known)}; known: {", ".join(known)}'
        )


def require_at_least(options: Any, names: Iterable[str], least: int) -> None:
    """`InputError` unless these fields of `options` are None, or finite and `least` or more."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


def require_shares(options: Any, names: Iterable[str]) -> None:
    """`InputError` unless these fields of `options` are None or lie in [0,1]."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"--{name.replace('_', '-')} must lie in [0,1], got {value}")


def require_norm(name: str) -> None:
    """`InputError` unless `name` is a threat's norm."""
    if name in ("batch", "group", "none"):
        raise InputError(
            f"--norm is the threat's: {', '.join(NORMS)}; layers other than batch norm are a "
            "target's of their own, as resnet20-group and resnet20-none"
        )
    require_known("norm", name, NORMS)


def require_folder(path: Path) -> None:
    """`InputError` unless `path` is a folder that can be written to, or one can be made there."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{there} is not a folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} cannot be written to; choose another --out")


def parse_beta(text: str) -> tuple[float, float]:
    """ "0.5" -> (0.5, 0.5); "0:1" -> (0, 1); `InputError` outside [0,1]."""
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if (
        len(values) not in (1, 2)
        or not all(0 <= v <= 1 for v in values)
        or values != sorted(values)
    ):
        raise InputError(
            f"--beta must be a number in [0,1] or a range such as 0:1 (alpha = 1 - beta), "
            f"got {text}"
        )
    return values[0], values[-1]
