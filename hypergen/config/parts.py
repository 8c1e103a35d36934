"""The settings of the parts of a run."""

from dataclasses import dataclass
from typing import Annotated, Literal

from hypergen import data
from hypergen.catalog import ACTIVATIONS, GENERATORS, TARGETS, VALUE_NETWORKS
from hypergen.errors import InputError
from hypergen.knob import parse_beta
from hypergen.measure_spec import MeasureSpec
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
EpsilonRange = Annotated[float | tuple[float, ...] | None, SIZE]
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
    epsilon: EpsilonRange = None
    """radius of the threat, for pixels in [0,1], such as 0.1 or 8/255; by default the data set's
    usual one in linf; a range such as 0:0.3 trains one generator for all radii in it, and all its
    networks are judged at the largest"""
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

    def require(self) -> None:
        if not isinstance(self.epsilon, tuple):
            return
        if len(self.epsilon) != 2 or self.epsilon[0] >= self.epsilon[1]:
            got = ":".join(f"{end:g}" for end in self.epsilon)
            raise InputError(f"`epsilon` must be a number or a range such as 0:0.3, got {got}")

    @property
    def radius(self) -> float | None:
        """The largest radius: that which networks are judged at."""
        return self.epsilon[1] if isinstance(self.epsilon, tuple) else self.epsilon


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
