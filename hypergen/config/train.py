"""The settings of a whole run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import attacks
from hypergen.config.parts import (
    Activation,
    AdversaryConfig,
    DataConfig,
    GeneratorConfig,
    LipschitzBound,
    ObjectiveConfig,
    OptimisationConfig,
    Target,
    ValueNetworkConfig,
)
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.knob import Knob, beta_text, parse_radius
from hypergen.settings import Settings


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
        published, goal = self.generator.kind == "published", self.objective
        ranges = {
            "measure": goal.has_many_preferences,
            "beta": len(set(goal.beta_range)) > 1,
            "epsilon": isinstance(self.adversary.epsilon, tuple),
        }
        ranged = [name for name, is_ranged in ranges.items() if is_ranged]
        if published and ranged:
            raise InputError(f"the published generator knows no range: `{ranged[0]}` has one")
        if len(ranged) > 1:
            names = " and ".join(f"`{name}`" for name in ranged)
            raise InputError(f"a generator is trained for one range: {names} have one each")
        if ranges["epsilon"] and goal.kind != "direct" and self.value_network.kind != "set":
            raise InputError(
                "a range of `epsilon` needs a value network that sees attacked images: use "
                "`value_network` set"
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
        return threat_on(self.data.name, self.adversary.norm, self.adversary.radius)

    @property
    def knob(self) -> Knob:
        """What a generator of one range is asked: beta, unless the radius has the range."""
        if isinstance(self.adversary.epsilon, tuple):
            low, high = self.adversary.epsilon
            return Knob("radius", low, high, whole=high)
        return Knob("beta", *self.objective.beta_range)

    @property
    def has_front(self) -> bool:
        """Whether one number asks for more accuracy or more robustness."""
        return self.knob.is_ranged and (self.knob.name == "radius" or not self.objective.measures)

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
    if isinstance(values.get("epsilon"), str):
        try:
            values["epsilon"] = parse_radius(values["epsilon"])
        except ValueError as error:
            raise InputError(f"`epsilon`: {error}") from None
    return values
