"""What decides a run: the settings of its parts, as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import attacks
from hypergen import data
from hypergen.catalog import ACTIVATIONS, GENERATORS, TARGETS, VALUE_NETWORKS
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec, beta_text, parse_beta
from hypergen.settings import (
    COUNT,
    HUGE,
    RATE,
    SEED,
    SHARE,
    SIZE,
    Norm,
    Range,
    Registered,
    Settings,
    Short,
)

Target = Annotated[str, Registered(TARGETS)]
Activation = Annotated[str, Registered(ACTIVATIONS)]
Epsilon = Annotated[float | None, SIZE]
LipschitzBound = Annotated[float | None, Range(0, HUGE, above=True)]
ImageSize = Annotated[int | None, Range(1, data.MAX_IMAGE_SIZE)]
ROBUST = 0.9
"""The lowest beta from which on robustness is nearly all that counts."""


@dataclass(frozen=True)
class DataConfig(Settings):
    """The images that networks classify."""

    name: Annotated[str, Registered(data.DATASETS), Short("dataset")] = "digits"
    """folder:PATH (a sub-folder a class), npz:PATH, torchvision:NAME, or one by its name"""
    image_size: ImageSize = None
    """resize all images to a square of so many pixels a side"""
    grey: bool = False
    """turn colour images into grey ones"""


@dataclass(frozen=True)
class GeneratorConfig(Settings):
    """What maps latent samples to weights."""

    kind: Annotated[str, Registered(GENERATORS, ("auto",)), Short("generator")] = "auto"
    """the generator's form, which auto chooses by the size of the target"""
    latent_size: Annotated[int, COUNT] = 16
    """Z, the length of a latent sample"""
    prior_scale: Annotated[float, SIZE] = 0.5
    """size of the random prior, an untrained map of z that keeps samples apart, relative to
    1/sqrt(fan-in); with 0 they become nearly one network"""
    disagreement: Annotated[float | None, Range(0, 1, above=True, below=True)] = None
    """steer prior_scale so that two samples class this share of validation images differently, such
    as 0.01; by default it stays as it is"""

    def require(self) -> None:
        if self.disagreement is not None and self.prior_scale == 0:
            raise InputError("`disagreement` is reached by a prior_scale above 0, got 0")


@dataclass(frozen=True)
class ValueNetworkConfig(Settings):
    """What estimates the measures of a network, and what it is fitted to."""

    kind: Annotated[str, Registered(VALUE_NETWORKS), Short("value_network")] = "set"
    """what it looks at, as `hypergen list value-network` says of each"""
    members: Annotated[int, Range(1, 1000), Short("value_members")] = 1
    """value networks that form an ensemble; from 2 on, an estimate comes with its uncertainty"""
    learning_rate: Annotated[float, RATE, Short("value_learning_rate")] = 2e-3
    """of the value network (Adam)"""
    weight_decay: Annotated[float, SIZE, Short("value_weight_decay")] = 0.0
    """of the value network"""
    steps: Annotated[int, COUNT, Short("value_steps")] = 16
    """steps of the value network a measurement"""
    replay_size: Annotated[int, COUNT] = 512
    """measurements kept for fitting it"""
    measure_every: Annotated[int | None, COUNT] = None
    """generator steps between measurements; by default 1, with objective direct 8"""
    num_perturbed: Annotated[int, SIZE] = 1
    """perturbed copies measured beside the generated networks, at most one of each"""
    measure_budget: Literal["all", "active"] = "all"
    """measure black boxes on all networks of a step, or (active) on the half V is least sure of"""

    def require(self) -> None:
        if self.measure_budget == "active" and self.members == 1:
            raise InputError("`measure_budget` active needs an ensemble: raise `value_members`")


@dataclass(frozen=True)
class ObjectiveConfig(Settings):
    """What the generator is trained for."""

    kind: Annotated[Literal["value", "direct", "hybrid"], Short("objective")] = "direct"
    """where the generator's gradient comes from: the value network (value), the generated network
    itself (direct), or both (hybrid)"""
    beta: str = "0.5"
    """weight of robustness, beside 1 - beta of accuracy; a range such as 0:1 trains one generator
    for all preferences in it"""
    measures: Annotated[tuple[str, ...], Short("measure")] = ()
    """what to train for instead, repeatable, with its weight: NAME=WEIGHT, with options as in
    robustness:norm=l2,epsilon=1.5=0.3 (see `hypergen list measure`); weights are normalised; with
    ranges, such as accuracy=0:1 and int8=0:1, one generator is trained for all preferences"""
    warmup: Annotated[float, SHARE] = 0.2
    """share of the steps over which all but accuracy (from scratch) or the spread of z (from a
    base) grows"""

    def require(self) -> None:
        parse_beta(self.beta)
        if not self.measures:
            return
        if self.beta != ObjectiveConfig.beta:
            raise InputError("`beta` weighs accuracy and robustness alone: leave out `measure`")
        specs = self.specs
        names = [spec.name for spec in specs]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(f"`measure` {twice[0]} is given twice")
        if sum(spec.high for spec in specs) == 0:
            raise InputError("`measure`: at least one weight must be above 0")
        if sum(spec.is_ranged for spec in specs) == 1:
            raise InputError("`measure`: a range needs a second one beside it, to trade it against")

    @property
    def beta_range(self) -> tuple[float, float]:
        """(lowest, highest) preference for robustness, both in [0,1]; equal when it is fixed."""
        return parse_beta(self.beta)

    @property
    def is_robustness(self) -> bool:
        """Whether robustness is nearly all that counts, whatever the preference."""
        return self.beta_range[0] >= ROBUST

    @property
    def has_many_preferences(self) -> bool:
        """Whether measures have ranges of weights, so that a preference is one of all of them."""
        return any(spec.is_ranged for spec in self.specs) if self.measures else False

    @property
    def specs(self) -> tuple[MeasureSpec, ...]:
        """The measures with their weights, accuracy first; those of the highest beta by default."""
        beta = self.beta_range[1]
        asked = self.measures or (f"accuracy={1 - beta}", f"robustness={beta}")
        found = [MeasureSpec.parse(text) for text in asked]
        if not any(spec.name == "accuracy" for spec in found):
            # Training starts with it: alone, other measures often have trivial optima.
            found.append(MeasureSpec.parse("accuracy=0"))
        return tuple(sorted(found, key=lambda spec: spec.name != "accuracy"))


@dataclass(frozen=True)
class AdversaryConfig(Settings):
    """What attacks the images that networks are trained and measured on."""

    norm: Norm = "linf"
    """norm of the threat"""
    epsilon: Epsilon = None
    """radius of the threat, for pixels in [0,1], such as 0.1 or 8/255; by default the data set's
    usual one in linf"""
    epsilon_factor: Annotated[float | None, SIZE] = None
    """radius trained against and measured at, relative to epsilon; by default 1.15, on colour
    images 1, as of networks trained directly"""
    epsilon_start: Annotated[float | None, SHARE] = None
    """share of that radius that training begins with; by default 0.6, with base pgd 1"""
    epsilon_warmup: Annotated[float, SHARE] = 0.25
    """share of the steps until all of it is reached; with 0 networks may hide from gradients"""
    attack_steps: Annotated[int | None, COUNT] = None
    """steps of every gradient attack inside a training step; by default 3, with base pgd 7"""
    value_attack: Literal["pgd", "margin"] = "pgd"
    """what attacks the images that the value network sees and is fitted to: PGD on cross-entropy
    (pgd; Auto-PGD in l1, from 7 steps on), or on the margin, which flatters less and teaches
    less"""
    max_robustness_gap: Annotated[float, SHARE] = 0.1
    """how far a measure may lie above a longer measurement before its budget or the attacks' steps
    are doubled; with 1 nothing is compared, which on a GPU is most of a short run's time"""


@dataclass(frozen=True)
class OptimisationConfig(Settings):
    """How the generator is trained."""

    steps: Annotated[int | None, COUNT] = None
    """generator steps; by default at least 1000, and as many as it takes for the networks of all
    steps to see twice the images that a network trained directly sees"""
    population: Annotated[int, COUNT] = 4
    """networks generated a step"""
    batch_size: Annotated[int, COUNT] = 64
    """training images a step, the same for each network"""
    learning_rate: Annotated[float, RATE] = 2e-3
    """of the generator (Adam)"""
    weight_decay: Annotated[float, SIZE] = 0.0
    """of the generator"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """of the generator's learning rate"""
    ema_decay: Annotated[float, SHARE] = 0.99
    """of the averaged generator that samples; 0 for none"""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """of multiplications in training, never in measuring: float32, bf16 (16 bits, for GPUs and CPUs
    with instructions for them), or auto, which takes bf16 where it trains such networks faster"""
    seed: Annotated[int, SEED] = 0
    """of everything random in the run"""

    @property
    def length(self) -> int:
        """The steps, of settings that name them (see `training.length.with_steps`)."""
        assert self.steps is not None
        return self.steps


@dataclass(frozen=True)
class TrainConfig(Settings):
    """What a generator is trained to do, and how."""

    data: DataConfig = field(default_factory=DataConfig)
    target: Target = "small-lenet5"
    """architecture whose weights are generated"""
    activation: Activation = "relu"
    """its activation function; k-WTA and KAFs take other shares and sizes too, as in kwta-0.1 and
    kaf-elu-40"""
    base: str | None = "auto"
    """start from this network: a weight file, a method of `hypergen baseline`, by which one is then
    trained on the spot, or none; auto is pgd for objective direct with a beta of 0.9 or more, where
    robustness is nearly all that counts, and else none"""
    lipschitz_bound: LipschitzBound = None
    """divide the weights of every linear layer and convolution so that its spectral norm, as an
    operator on its real input, is at most this; not with batch norm; by default unbounded"""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    value_network: ValueNetworkConfig = field(default_factory=ValueNetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)

    def require(self) -> None:
        published = self.generator.kind == "published"
        if published and self.objective.has_many_preferences:
            raise InputError("the published generator knows no preference: `measure` has a range")
        if published and len(set(self.objective.beta_range)) > 1:
            raise InputError(
                "the published generator knows no preference: `beta` must be one number, "
                f"got {self.objective.beta}"
            )
        usual = GeneratorConfig()
        for name in ("latent_size", "prior_scale", "disagreement"):
            if published and getattr(self.generator, name) != getattr(usual, name):
                raise InputError(
                    f"the published generator has a latent space of its own: leave out `{name}`"
                )
        self.threat  # noqa: B018  (raises where there is no usual radius)

    @property
    def threat(self) -> attacks.Threat:
        """What the attacks may do to an image."""
        return threat_on(self.data.name, self.adversary.norm, self.adversary.epsilon)

    @property
    def start(self) -> str | None:
        """The base, auto resolved: from scratch, samples stay behind PGD training near beta 1."""
        if self.base != "auto":
            return self.base
        goal = self.objective
        return "pgd" if goal.is_robustness and goal.kind == "direct" else None

    @property
    def attack_steps(self) -> int:
        """Gradient steps of an attack in training; a PGD-trained start has seen as many."""
        return self.adversary.attack_steps or (7 if self.start == "pgd" else 3)

    @property
    def epsilon_start(self) -> float:
        """Share of the radius that training begins with; a PGD-trained start withstands it all."""
        usual = 1.0 if self.start == "pgd" else 0.6
        return usual if self.adversary.epsilon_start is None else self.adversary.epsilon_start

    @property
    def measurement_interval(self) -> int:
        """Steps between measurements: what steers must be fresh, what only watches need not be."""
        usual = 8 if self.objective.kind == "direct" else 1
        return self.value_network.measure_every or usual

    @classmethod
    def of(cls, **values: Any) -> "TrainConfig":
        return super().of(**_as_settings(values))


def _as_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Short names and values, as a Python user may write them, as the fields hold them."""
    values = dict(values)
    if "beta" in values and not isinstance(values["beta"], str):
        values["beta"] = beta_text(values["beta"])
    if values.get("base") is not None:
        values["base"] = str(values["base"])
    return values
