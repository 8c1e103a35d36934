"""Which networks and images an evaluation is about, and by which attacks."""

import re
from dataclasses import dataclass
from typing import Annotated, get_args

import attacks
from hypergen import data
from hypergen.catalog import ATTACKS, MEASURES, TARGETS
from hypergen.config import Activation, Epsilon, ImageSize
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.statistics import FIGURES
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import RESERVED
from hypergen.measures.norms import parse_norms
from hypergen.settings import COUNT, HUGE, SEED, Norm, Range, Registered, Settings, Short
from hypergen.storage.metadata import FIELDS
from hypergen.storage.results_cache import ResultsCache

TAKEN = RESERVED | {*FIGURES, *FIELDS}
"""What rows and summaries of an evaluation call something else than a measure."""


@dataclass(frozen=True)
class ImagesConfig(Settings):
    """Which images networks are judged on, in which threat, and what external ones are."""

    epsilon: Epsilon = None
    """radius of the threat, such as 0.1 or 8/255; by default what the networks were made for"""
    norm: Norm | None = None
    """of the threat; by default what the networks were made for"""
    images: Annotated[int, COUNT] = 1000
    """test images attacked; accuracy is over all"""
    dataset: str | None = None
    """images to judge on; by default those that the networks were made for"""
    image_size: ImageSize = None
    """resize images to a square of so many pixels a side; by default as the networks saw them"""
    grey: bool = False
    """turn colour images into grey ones"""
    target: Annotated[str | None, Registered(TARGETS)] = None
    """architecture of an external state_dict"""
    activation: Activation = "relu"
    """activation of an external state_dict"""

    def require(self) -> None:
        if self.dataset is not None:
            data.require_known(self.dataset)
        if self.target is None and self.activation != "relu":
            raise InputError("`activation` is of an external state_dict: say its `target` too")


@dataclass(frozen=True)
class AttackConfig(ImagesConfig):
    """Which networks and images an attack is tried on, and how."""

    attack: str = "pgd"
    """any attack by its name, or torchattacks:NAME"""
    steps: Annotated[int, COUNT] = 50
    """of PGD"""
    restarts: Annotated[int, COUNT] = 10
    """of PGD"""
    step_size: Annotated[float | None, Range(0, HUGE, above=True)] = None
    """length of a step of PGD, for pixels in [0,1]; by default 2.5 * epsilon / steps"""
    seed: Annotated[int, SEED] = 0
    """of the attacks' random starts"""

    def require(self) -> None:
        super().require()
        refused = []
        norms = get_args(Norm) if self.norm is None else (self.norm,)  # which one, the files say
        for norm in norms:
            try:
                return self.require_attack(attacks.Threat(norm, 0.1))
            except attacks.AttackError as error:
                refused.append(error)
        raise refused[0]

    def require_attack(self, threat: attacks.Threat) -> None:
        """Raises `InputError` or `AttackError` unless there is such an attack in this norm."""
        ATTACKS.get(self.attack)(threat)

    def evaluator(self, threat: attacks.Threat, cache: ResultsCache | None = None) -> Evaluator:
        """What these options make of a threat."""
        return Evaluator(
            threat,
            self.attack,
            self.steps,
            self.restarts,
            self.images,
            self.seed,
            self.step_size,
            cache,
        )


@dataclass(frozen=True)
class EvaluateConfig(AttackConfig):
    """How networks are judged."""

    attack: str = "pgd"
    """pgd; standard: worst case of APGD-CE, APGD-T, FAB-T and Square; quick: the same, briefly;
    adaptive: and stronger ones where a network needs them (k-WTA: seconds an image);
    any other attack; torchattacks:NAME"""
    ensemble: bool = False
    """judge the networks also as one: voting, and drawing another network for every query"""
    checks: bool = False
    """look for signs that the figure is not real: masked gradients, saturation, randomness, ..."""
    norms: str | None = None
    """judge in several norms and in all at once (union), instead of `norm` and `epsilon`: norms
    with their radii, such as linf=8/255,l2=1.5,l1=10; `checks`, the drawing and measures look at
    the first"""
    measures: Annotated[tuple[str, ...], Short("measure")] = ()
    """also tell what this measure says of each network on the images attacked, repeatable: NAME,
    or with options as in int8:bits=4 (see `hypergen list measure`)"""

    def require(self) -> None:
        super().require()
        names = [parse_measure(text).name for text in self.measures]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(f"`measure` {twice[0]} is given twice")
        if self.norms is None:
            return
        if self.norm is not None or self.epsilon is not None:
            raise InputError("`norms` says norms and radii: leave out `norm` and `epsilon`")
        if self.step_size is not None:
            raise InputError("`step_size` is of one norm: leave it out with `norms`")
        for threat in parse_norms(self.norms):
            self.require_attack(threat)


def parse_measure(text: str) -> MeasureSpec:
    """The measure of a text such as "certified" or "int8:bits=4", which is not trained for.

    `InputError` for one with a weight, an unknown one, or a name that rows use otherwise.
    """
    if not re.fullmatch("[^:=]+(:[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*)?", text):
        raise InputError(
            "`measure` must be NAME, or with options NAME:OPTION=VALUE,..., and without a weight, "
            f"for nothing is trained: such as int8 or int8:bits=4, got {text:.80}"
        )
    spec = MeasureSpec.parse(f"{text}=1")
    MEASURES.get(spec.kind)
    if spec.name in TAKEN:
        raise InputError(
            f"`measure` {spec.name}: every evaluation has a figure of that name; leave it out, or "
            "ask for a measure with options"
        )
    return spec
