"""What fools one network, tried on all the others: the matrix of fooling rates.

Rows: the network that adversarial examples, or a universal perturbation, were made against;
columns: the network they are tried on (as in Moosavi-Dezfooli et al. 2017, table 2).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from attacks import Attack, AttackError, Universal, perturbed
from hypergen.data import Dataset
from hypergen.evaluation.diversity import off_diagonal
from hypergen.evaluation.evaluator import by_architecture
from hypergen.runtime.batching import chunks, for_all
from hypergen.runtime.fitting import BATCH_IMAGES, fit
from hypergen.runtime.precision import full_precision
from hypergen.runtime.progress import SILENT, Progress
from targets import Population, parallel_map

Craft = Callable[[Tensor, Tensor, int], Tensor]
"""Images [B,C,H,W], labels [B] and a seed to points [P,B,C,H,W] made against P networks."""


class MixedPopulation:
    """Networks of one or several architectures: populations that know their members' indices."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device):
        self.count = len(modules)
        self._groups = [
            (torch.tensor(members), Population.of(modules[i] for i in members).to(device))
            for members in by_architecture(modules)
        ]

    def chunks(self, images: Tensor) -> list[tuple[Tensor, Population]]:
        """Indices [p] and networks, so few at once that each may take images [N,C,H,W]."""
        return [
            (indices[network_slice], chunk)
            for indices, group in self._groups
            for network_slice, chunk in chunks(group, images)
        ]

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
        for indices, chunk in self.chunks(flat):
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


def against(
    chunk: Population, source: Attack | Universal, dataset: Dataset, count: int, seed: int
) -> Craft:
    """What `source` makes against networks; perturbations are fitted on `count` training images.

    An attack that judges stops as soon as it has crossed a network's own boundary, and so near it
    little carries over. Hence an attack's strong points (`Attack.perturb`) come first, and what it
    found in judging only where these break nothing.
    """
    if isinstance(source, Universal):
        images, labels = dataset.train.first(count)
        stack = for_all(images, chunk)
        perturbation = source.fit(chunk, stack, labels, [seed] * len(chunk))
        return lambda images, labels, seed: perturbed(images[None], perturbation)

    def examples(images: Tensor, labels: Tensor, seed: int) -> Tensor:
        stack, seeds = for_all(images, chunk), [seed] * len(chunk)
        result = source(chunk, stack, labels, seeds)
        if not source.perturbs:  # it only judges
            return result.images
        strong = source.perturb(chunk, stack, labels, seeds)
        with torch.no_grad():
            failed = ~result.robust_mask & (chunk(strong).argmax(-1) == labels)
        return torch.where(failed[..., None, None, None], result.images, strong)

    return examples


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
    diagonal is what the attack takes from each network's own accuracy. `AttackError`: networks that
    cannot be attacked, as they are counted in `networks`.
    """
    images, labels = dataset.test.first(count)
    slices = [slice(i, i + BATCH_IMAGES) for i in range(0, len(images), BATCH_IMAGES)]
    workers = networks.workers(images)
    progress.start(networks.count * len(images))
    with full_precision():
        clean = parallel_map(lambda own: networks.classes(images[None, own]), slices, workers)
        correct = torch.cat(list(clean), -1) == labels  # [P,1,N]
        groups = networks.chunks(images)

        def crafted(group: tuple[Tensor, Population]) -> tuple[Tensor, Craft]:
            indices, chunk = group
            with counted_as(indices):
                return indices, against(chunk, source, dataset, count, seed)

        crafts = list(parallel_map(crafted, groups, workers))

        def fooled(job: tuple[Tensor, Craft, slice]) -> Tensor:
            """How many of the images of a slice each of s crafted sets fools, [s,P]."""
            indices, craft, own = job
            with counted_as(indices):
                points = craft(images[own], labels[own], seed + own.start)
            progress.advance(points.shape[0] * points.shape[1])
            return (correct[..., own] & (networks.classes(points) != labels[own])).sum(-1).T

        jobs = [(indices, craft, own) for indices, craft in crafts for own in slices]
        matrix = torch.zeros(networks.count, networks.count, dtype=torch.double)
        for (indices, _, _), some in zip(jobs, parallel_map(fooled, jobs, workers), strict=True):
            matrix[indices] += some.cpu()
    progress.finish()
    return correct[:, 0].double().mean(-1).cpu(), matrix / len(images)


def carried_over(matrix: Tensor) -> float:
    """How much of what attacks do to the network they were made against they do to others.

    From fooling rates [P,P], mean over pairs: 1 for equal networks, 0 where nothing carries over or
    nothing was done.
    """
    done = matrix.diagonal()[:, None]
    return float(off_diagonal(matrix / torch.where(done > 0, done, torch.inf)).mean())
