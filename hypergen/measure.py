"""What a network is worth: the measures, and the only place where targets meet attacks.

A measure has a name, a value in [0,1] for every network of a population, and a differentiable
surrogate loss for the `direct` objective. The value network has one output a measure and the
objective one weight a measure (`latent.preference_weights`).
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

import attacks
from attacks.losses import cross_entropy
from hypergen.record import Record
from hypergen.tracking import Bar
from targets import Ensemble, Population, concurrently, jobs_at_once

BATCH_IMAGES = 256
"""Images of one network evaluated at once."""
GPU_BATCH_IMAGES = 2048
"""The same on a GPU with the memory, where so many take hardly longer; fewer where they need it."""
Networks = TypeVar("Networks", bound=Population | Ensemble)
T = TypeVar("T")

KEPT_SHARE = 0.25
"""Of a GPU's memory, for what a piece keeps for its backward pass; attacks and gradients need more
beside it."""


@dataclass(frozen=True)
class Batch:
    """Images for every network of a population, clean and attacked; labels [B].

    images: [B,C,H,W]; attacked: [P,B,C,H,W], made against each network.
    """

    images: Tensor
    labels: Tensor
    attacked: Tensor

    def for_networks(self, place: slice) -> "Batch":
        """The same batch for some of the networks."""
        return Batch(self.images, self.labels, self.attacked[place])


def attacked_batch(
    population: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack,
    seed: int,
    to_train: bool = False,
) -> Batch:
    """The images [B,C,H,W] with, for each network, their adversarial versions.

    `to_train` makes them in half precision where that is faster; to measure takes all bits.
    """
    precision = half_precision if to_train else contextlib.nullcontext

    def run(piece: Population | Ensemble, part: slice) -> Tensor:
        stack = for_all(images[part], piece)
        with precision(images.device):
            return attack.perturb(piece, stack, labels[part], [seed + part.start] * len(piece))

    return Batch(images, labels, piecewise(run, population, images))


class Measure(ABC):
    """A figure of merit in [0,1]."""

    name: str

    @abstractmethod
    def __call__(self, population: Population, batch: Batch) -> Tensor:
        """[P], measured on the images of the batch."""

    @abstractmethod
    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        """[P], a loss that falls as the measure rises, differentiable in the weights."""


class Accuracy(Measure):
    """Share of clean images classified correctly; surrogate: their cross-entropy."""

    name = "accuracy"

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return _correct(population, for_all(batch.images, population), batch.labels)

    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        return _cross_entropy(population(for_all(batch.images, population)), batch.labels)


class Robustness(Measure):
    """Share of attacked images classified correctly; surrogate: their cross-entropy."""

    name = "robustness"

    def __call__(self, population: Population, batch: Batch) -> Tensor:
        return _correct(population, batch.attacked, batch.labels)

    def surrogate(self, population: Population, batch: Batch) -> Tensor:
        return _cross_entropy(population(batch.attacked), batch.labels)


ACCURACY, ROBUSTNESS = Accuracy(), Robustness()
MEASURES: tuple[Measure, ...] = (ACCURACY, ROBUSTNESS)
"""The measures of a run, in the order of the preference's weights."""


def named(values: Iterable[T]) -> dict[str, T]:
    """One value a measure, in their order -> each by its measure's name."""
    return {measure.name: value for measure, value in zip(MEASURES, values, strict=True)}


def margin(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on the margin, which saturated logits cannot hide from."""
    return attacks.PGD(threat, steps=steps, loss="margin")


def pgd(threat: attacks.Threat, steps: int) -> attacks.Attack:
    """PGD on cross-entropy, what the published protocol measures by."""
    return attacks.PGD(threat, steps=steps)


MEASURERS: dict[str, Callable[[attacks.Threat, int], attacks.Attack]] = {
    "margin": margin,
    "pgd": pgd,
}
"""What attacks the images that V sees and robustness is measured on, given a threat and steps."""


def survivors(
    population: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack | None,
    seed: int,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda images: None,
    record: Record | None = None,
) -> dict[str, Tensor]:
    """Which of images [N,C,H,W] every network classifies correctly: name -> bool [P,N].

    One entry "clean", then one for each attack in turn, what is left after it. Every network gets
    the same `seed`, so a network's result does not depend on the population it is in. `progress`
    is called with the number of network-images done. What `record` knows is not done again, and
    what is done goes there. `batch_size`: see `images_at_once`; an attack's random starts are drawn
    batch by batch.
    """
    batch_size = batch_size or images_at_once(population, images)
    jobs = list(_jobs(population, images, batch_size, attack is not None and attack.singly))

    def run(job: tuple[slice, Population | Ensemble, slice]) -> dict[str, Tensor]:
        place, piece, part = job
        found = None if record is None else record.find(piece, part)
        if found is None:
            stack, truth = for_all(images[part], piece), labels[part]
            with torch.no_grad():
                found = {"clean": piece(stack).argmax(-1) == truth}
            if attack is not None:
                try:
                    result = attack(piece, stack, truth, [seed + part.start] * len(piece))
                except attacks.AttackError as error:  # which counts within the piece
                    error.networks = [place.start + index for index in error.networks]
                    raise
                found |= result.table
            if record is not None:
                record.add(piece, part, found)
        progress(len(piece) * (part.stop - part.start))
        return {name: left.to(images.device) for name, left in found.items()}

    table: dict[str, Tensor] = {}
    for (place, _, part), found in zip(
        jobs, concurrently(run, jobs, jobs_at_once(images.device)), strict=True
    ):
        for name, correct in found.items():
            if name not in table:
                table[name] = torch.empty(
                    len(population), len(images), dtype=torch.bool, device=images.device
                )
            table[name][place, part] = correct
    return table


def accuracies(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """[P], the share of images [N,C,H,W] that every network classifies correctly, with a bar."""
    bar = Bar("accuracy", len(population) * len(labels))
    table = survivors(population, images, labels, None, seed=0, progress=bar.advance)
    bar.close()
    return table["clean"].float().mean(1)


@torch.no_grad()
def predictions(population: Population | Ensemble, images: Tensor) -> Tensor:
    """[P,N], the class that every network puts images [N,C,H,W] into."""
    return piecewise(
        lambda piece, part: piece(for_all(images[part], piece)).argmax(-1), population, images
    )


def piecewise(
    function: Callable[[Networks, slice], Tensor], population: Networks, images: Tensor
) -> Tensor:
    """[P,N,...], put together of `function(networks, place)` for some of P networks and N images.

    function: p networks, and the place of n images [n,C,H,W] among `images` -> [p,n,...].
    """
    jobs = list(_jobs(population, images, images_at_once(population, images)))
    done = concurrently(lambda job: function(*job[1:]), jobs, jobs_at_once(images.device))
    whole = None
    for (place, _, part), values in zip(jobs, done, strict=True):
        if whole is None:
            whole = values.new_empty(len(population), len(images), *values.shape[2:])
        whole[place, part] = values
    assert whole is not None  # there is no population of nobody
    return whole


def _jobs(
    population: Networks, images: Tensor, batch_size: int, singly: bool = False
) -> Iterator[tuple[slice, Networks, slice]]:
    """The work in pieces of bounded size: (place of the networks, they, place of the images).

    `singly`: a network at a time.
    """
    some = images[:batch_size]
    for place, piece in population.pieces(1) if singly else pieces(population, some):
        for start in range(0, len(images), batch_size):
            yield place, piece, slice(start, min(start + batch_size, len(images)))


def pieces(population: Networks, images: Tensor) -> Iterator[tuple[slice, Networks]]:
    """The population in pieces that images [N,C,H,W] each fit the memory with: (place, piece)."""
    return population.pieces(networks_at_once(population, images))


def recalibrated(population: Population, images: Tensor) -> Population:
    """`Population.recalibrate` on training images [N,C,H,W], as many at once as memory allows."""
    return population.recalibrate(
        images, BATCH_IMAGES, networks_at_once(population, images[:BATCH_IMAGES])
    )


def networks_at_once(population: Population | Ensemble, images: Tensor) -> int | None:
    """Networks that a GPU attacks, or differentiates, at once on images [N,C,H,W] each.

    None elsewhere, and for an ensemble.
    """
    memory = memory_of(images.device)
    if memory is None or isinstance(population, Ensemble):
        return None
    return max(1, int(KEPT_SHARE * memory / population.bytes_kept(images)))


def images_at_once(population: Population | Ensemble, images: Tensor) -> int:
    """How many of images [N,C,H,W] had better be evaluated at once, whatever the population's size.

    On a GPU as many as its memory holds for one network (or all that vote), of 1, 2, 4, ... 2,048.
    """
    memory = memory_of(images.device)
    if memory is None:
        return BATCH_IMAGES
    members = population.members if isinstance(population, Ensemble) else population[:1]
    some = images[:BATCH_IMAGES]
    kept_an_image = len(members) * members.bytes_kept(some) / len(some)
    size = GPU_BATCH_IMAGES
    while size > 1 and size * kept_an_image > KEPT_SHARE * memory:
        size //= 2
    return size


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """On a GPU, 16 bits where these are enough; for training alone, never for measuring."""
    on = device.type == "cuda"
    # Without its cache: what is recorded as a CUDA graph must not depend on what came before.
    return torch.autocast(device.type, torch.bfloat16, enabled=on, cache_enabled=False)


def memory_of(device: torch.device) -> int | None:
    """Bytes of a GPU; None for a CPU."""
    cuda = device.type == "cuda"
    return torch.cuda.get_device_properties(device).total_memory if cuda else None


@torch.no_grad()
def _correct(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """[P], share of images [P,B,C,H,W] classified as labels [B] say."""

    def right(job: tuple[slice, Population]) -> Tensor:
        place, piece = job
        return piece(images[place]).argmax(-1) == labels

    found = concurrently(right, pieces(population, images[0]), jobs_at_once(images.device))
    return torch.cat(list(found)).float().mean(1)


def for_all(images: Tensor, population: Population | Ensemble) -> Tensor:
    """The same images [N,...] (or labels) for each network, [P,N,...], without a copy."""
    return images.expand(len(population), *images.shape)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over images of logits [P,B,K] against labels [B]: [P]."""
    return cross_entropy(logits, labels.expand(len(logits), -1)).mean(1)
