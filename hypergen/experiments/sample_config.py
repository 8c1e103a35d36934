"""Which networks of a run are drawn, and how the best are verified."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.trade_off import value_for_accuracy
from hypergen.knob import KNOBS, Name, parse_values
from hypergen.settings import COUNT, SEED, SHARE, Settings


@dataclass(frozen=True)
class SampleConfig(Settings):
    """Which networks are drawn, and how the best are verified."""

    count: Annotated[int, COUNT]
    """networks drawn"""
    keep: Annotated[int | None, COUNT] = None
    """how many of the best are written: found by successive halving on validation images, from
    cheap measurements of all to the ones that judge of a few, and verified on test images; by
    default all, unattacked, in the value network's order"""
    beta: str | None = None
    """weight of robustness, for a run trained on a range; by default drawn from it. LOW:HIGH:COUNT,
    such as 0:1:11, gives the whole trade-off: so many betas, with `count` and `keep` for each"""
    radius: str | None = None
    """epsilon that networks are asked to withstand, for a run trained on a range of it; by default
    drawn from it, and LOW:HIGH:COUNT as for beta; all are judged at the run's largest epsilon"""
    accuracy_at_least: Annotated[float | None, SHARE] = None
    """instead of beta, or radius: take the largest whose networks are so accurate on validation
    images"""
    prefer: str | None = None
    """weights of measures, such as accuracy=0.2,int8=0.8, for a run trained on ranges of them; by
    default drawn from these"""
    seed: Annotated[int, SEED] = 1
    """of the latent samples"""
    images: Annotated[int, COUNT] = 100
    """of validation to choose and of test to verify what `keep` keeps, by PGD-50, standard robust
    accuracy and the run's other measures"""

    def require(self) -> None:
        if self.keep is not None and self.keep > self.count:
            raise InputError(f"`keep` must be at most `count` ({self.count}), got {self.keep}")
        asked = [name for name in (*KNOBS, "prefer") if getattr(self, name) is not None]
        if self.accuracy_at_least is not None and asked:
            raise InputError(f"`accuracy_at_least` chooses what is asked: leave out `{asked[0]}`")
        if len(asked) > 1:
            raise InputError(f"`{asked[0]}` and `{asked[1]}`: only one of them can be asked")
        self.values  # noqa: B018  (raises where they are none)

    @property
    def values(self) -> list[tuple[Name, float]]:
        """The betas or radii to draw at; none where preferences are drawn, or otherwise chosen."""
        return [
            (name, value)
            for name in KNOBS
            if (text := getattr(self, name)) is not None
            for value in parse_values(text, name)
        ]

    def chosen(self, sampler: Sampler, dataset: Dataset) -> list[dict[str, Any]]:
        """What `Sampler.draw` is asked for, group by group of networks."""
        if self.accuracy_at_least is not None:
            value = value_for_accuracy(sampler, dataset, self.accuracy_at_least, self.seed)
            return [{sampler.config.knob.name: value}]
        if self.values:
            return [{name: value} for name, value in self.values]
        return [{"prefer": parse_prefer(self.prefer, [each.name for each in sampler.measures])}]


def parse_prefer(text: str | None, names: Sequence[str]) -> dict[str, float] | None:
    """Reads NAME=WEIGHT,...; names may themselves have "=" and "," in them. `InputError` else."""
    if text is None:
        return None
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found: dict[str, float] = {}
    rest = text
    while rest:
        match = re.match(rf"({known}|[^=,]+)=([^=,]+)(?:,|$)", rest)
        try:
            name, weight = match[1], float(match[2])  # pyright: ignore[reportOptionalSubscript]
        except (TypeError, ValueError):
            raise InputError(
                f"`prefer` must be weights of measures, such as accuracy=0.2,int8=0.8, got {text}"
            ) from None
        if name in found:
            raise InputError(f"`prefer` names {name} twice")
        assert match is not None
        found[name], rest = weight, rest[match.end() :]
    return found
