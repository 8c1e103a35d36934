"""What a measure is: a figure in [0,1] for every network of a population.

A *black box* is measured and no more: any function (population, images, labels) -> [P]. What can
also give the logits that it judges by is a `LogitMeasure`: then the value network sees for every
image how right or wrong it is, intervals are known, and there is a loss for the `direct` objective.

Each measure is built once a run and used in every step: `prepare` does once for a batch what takes
long and needs no gradient (attacked or corrupted images, changed weights); the rest reads it there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import attacks
from attacks.losses import cross_entropy
from hypergen.errors import InputError, is_out_of_memory
from hypergen.runtime.batching import for_all, map_networks
from hypergen.runtime.precision import Precision, full_precision
from targets import Population


@dataclass(frozen=True)
class Batch:
    """Images for every network of a population, with what the measures prepared of them.

    images: [B,C,H,W]; labels: [B]; prepared: by the name of a measure, [P,...]; logits: likewise,
    what networks answered to it, [P,B,K], where that is known already (see `answered`).
    """

    images: Tensor
    labels: Tensor
    prepared: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)

    def for_networks(self, network_slice: slice) -> "Batch":
        """The same batch for some of the networks."""
        prepared, logits = (
            {name: made[network_slice] for name, made in each.items()}
            for each in (self.prepared, self.logits)
        )
        return Batch(self.images, self.labels, prepared, logits)


@dataclass(frozen=True)
class Stage:
    """When measures prepare a batch, and for what.

    attack: gives the attack on a threat, as strong as is wanted now.
    seed: of everything random, the same for every network.
    precision: what attacks compute in; bf16 where these images are trained on and judge nothing.
    """

    attack: Callable[[attacks.Threat], attacks.Attack]
    seed: int
    precision: Precision = "float32"

    def threat(self, threat: attacks.Threat) -> attacks.Threat:
        """What a threat is now: in training it is enlarged, and grows."""
        return self.attack(threat).threat


class Measure(ABC):
    """A figure of merit in [0,1], the higher the better.

    Attributes:
        name: what it is called in results, with its options, such as robustness:norm=l2.
        is_dear: whether to take it costs much beyond what the value network and the generator's
            gradient look at anyway, as a black box may: then `measure_budget` active spares it.
            What it prepares is made for all networks nevertheless.
    """

    name = ""
    is_dear = True

    @abstractmethod
    def __call__(self, population: Population, batch: Batch) -> Tensor:
        """[P], measured on the images of the batch."""

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor | None:
        """What it needs of images [B,C,H,W] and labels [B], [P,...], made once; None for nothing.

        Networks do not influence each other; no gradient flows.
        """
        return None

    def strict(self) -> "Measure":
        """The same measure with the budget that its figures are judged by."""
        return self

    def raised(self) -> "Measure":
        """The same measure with twice the budget in training, where it was found to flatter.

        What it prepares or says may change, not what its logits are of a batch; itself where there
        is no budget, or no more to be had.
        """
        return self


class LogitMeasure(Measure):
    """The share of images whose logits, under the measure's condition, are right.

    Attacked images, say, are made for all networks before V is asked, for V looks at them and
    gradients pass through them: to count what is right on them is cheap.
    """

    is_dear = False

    @abstractmethod
    def logits(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,K], what it judges by, differentiable in `population.theta`."""

    def known_logits(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,K], the logits that stand in the batch, or else new ones."""
        known = batch.logits.get(self.name)
        return self.logits(population, batch) if known is None else known

    def correct(self, population: Population, batch: Batch) -> Tensor:
        """bool [P,B], the images that it counts."""
        if self.name not in batch.logits:
            batch = answered([self], population, batch)
        return batch.logits[self.name].argmax(-1) == batch.labels

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return self.correct(population, batch).double().mean(1)

    def surrogate_loss(self, population: Population, batch: Batch) -> Tensor:
        """[P], a loss that falls as the measure rises, differentiable in the weights."""
        logits = self.logits(population, batch)
        return cross_entropy(logits, batch.labels.expand(len(logits), -1)).mean(1)


class ImageMeasure(LogitMeasure):
    """The share of changed images (attacked, corrupted) that a network classifies correctly."""

    @abstractmethod
    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        """[P,B,C,H,W], the changed images in [0,1]."""

    def logits(self, population: Population, batch: Batch) -> Tensor:
        return population(batch.prepared[self.name])


class WeightMeasure(LogitMeasure):
    """The share of images that a network classifies correctly once its weights are changed.

    The change is taken for constant: gradients pass as if the weights had just been moved
    ("straight through", Bengio et al. 2013). Batch-norm statistics stay those of the unchanged
    network.
    """

    @abstractmethod
    def change_weights(self, population: Population, stage: Stage) -> Tensor:
        """[P,D], the weights that are judged in place of `population.theta`."""

    def prepare(
        self, population: Population, images: Tensor, labels: Tensor, stage: Stage
    ) -> Tensor:
        """[P,D], by how much the weights change."""
        with torch.no_grad():
            return self.change_weights(population, stage) - population.theta

    def logits(self, population: Population, batch: Batch) -> Tensor:
        changed = population.with_theta(population.theta + batch.prepared[self.name])
        return changed(for_all(batch.images, changed))


class FunctionMeasure(Measure):
    """A black box: a function (population, images [B,C,H,W], labels [B]) -> [P] in [0,1].

    options: what else it is called with.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]):
        self.function, self.options = function, dict(options)

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return self.function(population, batch.images, batch.labels, **self.options)


@full_precision()
@torch.no_grad()
def answered(measures: Iterable[Measure], population: Population, batch: Batch) -> Batch:
    """The batch with the logits that measures judge by: who needs them next, need not compute them.

    `InputError`: a measure fails.
    """
    judges = [measure for measure in measures if isinstance(measure, LogitMeasure)]

    def answers(network_slice: slice, chunk: Population) -> list[Tensor]:
        own, logits = batch.for_networks(network_slice), []
        for measure in judges:
            with told(measure):
                logits.append(measure.logits(chunk, own))
        return logits

    found = zip(*map_networks(answers, population, batch.images), strict=True)
    names = [measure.name for measure in judges]
    return replace(batch, logits=dict(zip(names, map(torch.cat, found), strict=True)))


@contextmanager
def told(measure: Measure) -> Iterator[None]:
    """Within, whatever a user's own measure raises becomes an `InputError` that names it."""
    try:
        yield
    except (InputError, attacks.AttackError):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):  # no fault of the measure
            raise
        kind, text = type(error).__name__, str(error).partition("\n")[0]
        reason = f"{kind}: {text}" if text else kind
        raise InputError(f"the measure {measure.name} failed: {reason}") from error
