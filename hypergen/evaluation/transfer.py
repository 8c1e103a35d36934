"""What fools one network, tried on all the others: the matrix of fooling rates.

Rows: the network that adversarial examples, or a universal perturbation, were made against;
columns: the network they are tried on (as in Moosavi-Dezfooli et al. 2017, table 2).
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attacks import Attack, AttackError, Universal, perturbed
from hypergen.data import Dataset
from hypergen.evaluation.diversity import off_diagonal
from hypergen.evaluation.evaluator import by_architecture
from hypergen.runtime import crew
from hypergen.runtime.batching import for_all
from hypergen.runtime.fitting import BATCH_IMAGES, fit
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import SILENT, Progress
from targets import Population, parallel_map

Place = tuple[int, int | None, slice]
"""Some networks: their architecture by its number, how many images they see at once, which."""


class MixedPopulation:
    """Networks of one or several architectures: populations that know their members' indices."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device):
        self.count = len(modules)
        self._groups = [
            (torch.tensor(members), Population.of(modules[i] for i in members).to(device))
            for members in by_architecture(modules)
        ]

    def to(self, device: torch.device) -> "MixedPopulation":
        """The same networks on another device."""
        other = copy.copy(self)
        other._groups = [(members, group.to(device)) for members, group in self._groups]
        return other

    def places(self, images: Tensor) -> Iterator[Place]:
        """All networks, so few at once that each may take images [N,C,H,W]."""
        for number, (_, group) in enumerate(self._groups):
            found = fit(group, images)
            for network_slice, _ in group.chunks(found.networks):
                yield number, found.images, network_slice

    def at(self, place: Place) -> tuple[Tensor, Population]:
        """The networks of a place, and their indices [p]."""
        number, size, network_slice = place
        members, group = self._groups[number]
        return members[network_slice], group.in_parts(size)[network_slice]

    def workers(self, images: Tensor) -> int | None:
        """How many jobs may look at images [N,C,H,W] side by side; None for one a core."""
        found = [fit(group, images).workers for _, group in self._groups]
        return min((most for most in found if most is not None), default=None)

    @torch.no_grad()
    def classes(self, points: Tensor) -> Tensor:
        """The class that every network puts points [S,B,C,H,W] into, [P,S,B].

        `AttackError`: networks whose logits are no numbers.
        """
        shape = self.count, *points.shape[:2]
        classes = torch.empty(shape, dtype=torch.long, device=points.device)
        flat = points.flatten(0, 1)
        for indices, chunk in map(self.at, self.places(flat)):
            logits = chunk(for_all(flat, chunk))
            sick = indices[~logits.isfinite().flatten(1).all(1).cpu()]
            if len(sick):
                raise AttackError("the networks returned NaN or infinite logits", sick.tolist())
            classes[indices] = logits.argmax(-1).unflatten(1, points.shape[:2])
        return classes


@contextlib.contextmanager
def counted_as(indices: Tensor) -> Iterator[None]:
    """Lets an `AttackError` about networks of a chunk tell them by their indices [p]."""
    try:
        yield
    except AttackError as error:
        error.networks = [int(indices[network]) for network in error.networks]
        raise


def strongest(
    chunk: Population, attack: Attack, images: Tensor, labels: Tensor, seed: int
) -> Tensor:
    """Points [P,B,C,H,W] that an attack makes against P networks, of images [B,C,H,W].

    An attack that judges stops as soon as it has crossed a network's own boundary, and so near it
    little carries over. Hence an attack's strong points (`Attack.perturb`) come first, and what it
    found in judging only where these break nothing.
    """
    stack, seeds = for_all(images, chunk), [seed] * len(chunk)
    result = attack(chunk, stack, labels, seeds)
    if not attack.perturbs:  # it only judges
        return result.images
    strong = attack.perturb(chunk, stack, labels, seeds)
    with torch.no_grad():
        failed = ~result.robust_mask & (chunk(strong).argmax(-1) == labels)
    return torch.where(failed[..., None, None, None], result.images, strong)


@dataclass(frozen=True)
class _Attacked:
    """Networks, where each chunk of them is, what attacks them, and the images that it is tried on.

    images: [N,C,H,W], labels [N]; correct: bool [P,1,N], what each network gets right when clean;
    training: the images and labels that a universal perturbation is fitted on; perturbations:
    [p,C,H,W], those of each chunk, once they are fitted.
    """

    networks: MixedPopulation
    places: Sequence[Place]
    source: Attack | Universal
    seed: int
    images: Tensor
    labels: Tensor
    correct: Tensor
    training: tuple[Tensor, ...]
    perturbations: tuple[Tensor, ...] = ()

    def on(self, device: torch.device) -> "_Attacked":
        """The same, all tensors on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("images", "labels", "correct")}
        several = {
            name: tuple(each.to(device) for each in getattr(self, name))
            for name in ("training", "perturbations")
        }
        return replace(self, networks=self.networks.to(device), **tensors, **several)

    def fitted(self, number: int) -> Tensor:
        """The universal perturbations [p,C,H,W] of a chunk of networks, by its number."""
        assert isinstance(self.source, Universal)
        indices, chunk = self.networks.at(self.places[number])
        images, labels = self.training
        with counted_as(indices):
            return self.source.fit(chunk, for_all(images, chunk), labels, [self.seed] * len(chunk))

    def fooled(self, job: tuple[int, slice]) -> Tensor:
        """How many images of a slice each network gets wrong when made to fool a chunk's, [p,P]."""
        number, own = job
        images, labels = self.images[own], self.labels[own]
        indices, chunk = self.networks.at(self.places[number])
        with counted_as(indices):
            if isinstance(self.source, Universal):
                points = perturbed(images[None], self.perturbations[number])
            else:
                points = strongest(chunk, self.source, images, labels, self.seed + own.start)
        return (self.correct[..., own] & (self.networks.classes(points) != labels)).sum(-1).T


class _Sent:
    """Jobs as they travel to helpers (see `runtime.crew`), their tensors on the CPU meanwhile."""

    def __init__(
        self, attacked: _Attacked, method: Literal["fitted", "fooled"], jobs: Sequence[Any]
    ):
        self.attacked, self.method, self.jobs = attacked, method, jobs

    def __getstate__(self) -> dict[str, Any]:
        on = self.attacked.images.device.type
        return self.__dict__ | {"attacked": self.attacked.on(torch.device("cpu")), "on": on}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.attacked = self.attacked.on(torch.device(state["on"]))

    def __call__(self, own: Any, number: int) -> Tensor:
        """What comes of a job by its number, at a helper; on the CPU."""
        with full_precision():
            return getattr(self.attacked, self.method)(self.jobs[number]).cpu()


def fooling_rates(
    networks: MixedPopulation,
    source: Attack | Universal,
    dataset: Dataset,
    count: int,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Tensor, Tensor]:
    """Accuracy [P] and fooling rates [P,P], shares of the first `count` test images.

    Entry (i, j): what network j gets right when clean, and wrong when made to fool network i. The
    diagonal is what the attack takes from each network's own accuracy. A universal perturbation is
    fitted on `count` training images. `AttackError`: networks that cannot be attacked, as they are
    counted in `networks`.
    """
    images, labels = dataset.test.first(count)
    slices = [slice(i, i + BATCH_IMAGES) for i in range(0, len(images), BATCH_IMAGES)]
    workers = networks.workers(images)
    progress.start(networks.count * len(images))

    def advance(job: tuple[int, slice], found: Tensor) -> None:
        progress.advance(len(found) * len(images[job[1]]))

    with full_precision():
        clean = parallel_map(lambda own: networks.classes(images[None, own]), slices, workers)
        correct = torch.cat(list(clean), -1) == labels  # [P,1,N]
        places = [*networks.places(images)]
        training = dataset.train.first(count) if isinstance(source, Universal) else ()
        on = images, labels, correct, training
        attacked, numbers = _Attacked(networks, places, source, seed, *on), range(len(places))
        if isinstance(source, Universal):
            remote = _Sent(attacked, "fitted", numbers)
            fitted = crew.mapped(attacked.fitted, numbers, workers, remote, lambda *_: None)
            perturbations = tuple(each.to(images.device) for each in fitted)
            attacked = replace(attacked, perturbations=perturbations)

        def fooled(job: tuple[int, slice]) -> Tensor:
            found = attacked.fooled(job)
            advance(job, found)
            return found

        jobs = [(number, own) for number in numbers for own in slices]
        matrix = torch.zeros(networks.count, networks.count, dtype=torch.double)
        done = crew.mapped(fooled, jobs, workers, _Sent(attacked, "fooled", jobs), advance)
        for (number, _), some in zip(jobs, done, strict=True):
            matrix[networks.at(places[number])[0]] += some.cpu()
    progress.finish()
    return correct[:, 0].double().mean(-1).cpu(), matrix / len(images)


def carried_over(matrix: Tensor) -> float:
    """How much of what attacks do to the network they were made against they do to others.

    From fooling rates [P,P], mean over pairs: 1 for equal networks, 0 where nothing carries over or
    nothing was done.
    """
    done = matrix.diagonal()[:, None]
    return float(off_diagonal(matrix / torch.where(done > 0, done, torch.inf)).mean())
