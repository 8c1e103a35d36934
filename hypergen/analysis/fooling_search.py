"""Searches for images that networks take for each of their classes, in as few looks as they can.

Sources: Nguyen, Yosinski, Clune 2015, "Deep neural networks are easily fooled"; Deb and Agrawal
1999 (polynomial mutation); Stanley 2007 (compositional pattern-producing networks).

All networks are searched with the same random numbers, so what is found for one does not depend on
the others.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from targets import Population

INDIVIDUALS = 10
"""In a population of the genetic algorithm; as many children come with each generation."""
MUTATED = 0.1
"""Share of the genes that a mutation changes, as in Nguyen et al."""
STRENGTH = 1.0
"""Of mutations, the distribution index of Deb and Agrawal: less moves genes further. With 15, as in
Nguyen et al., who look at far more images, fewer are found within a thousand."""
STEP = 0.02
"""How far a step of gradient ascent moves each pixel."""
UNITS = 8
"""In each hidden layer of a network that makes a pattern; a quarter for each of its functions."""
SPAN = 4.0
"""The weights of such a network are in [-SPAN, SPAN]."""


class Search:
    """What a method found so far: an image for each of K classes and P networks.

    Attributes:
        images: [P,K,C,H,W], the first that was enough, else the one of greatest score.
        scores: their log-probabilities of the class, [P,K].
        evaluations: images looked at until one was enough, [P,K]; the budget where none was.
        used: images looked at so far for each class that is not found.

    Args:
        population: P networks.
        shape: of an image, (C,H,W).
        classes: K, the first ones of the networks.
        budget: images that a network may look at for a class.
        enough: the log-probability that ends the search for a class.
    """

    def __init__(
        self,
        population: Population,
        shape: tuple[int, int, int],
        classes: int,
        budget: int,
        enough: float,
    ):
        self.population, self.shape, self.classes = population, shape, classes
        self.budget, self.enough, self.used = budget, enough, 0
        like, size = population.theta.detach(), (len(population), classes)
        self.images = like.new_zeros(*size, *shape)
        self.scores = like.new_full(size, -torch.inf)
        self.evaluations = torch.full(size, budget, device=like.device)
        self._open = torch.ones(size, dtype=torch.bool, device=like.device)

    @property
    def open(self) -> Tensor:
        """The classes [A] that are not found for every network."""
        return self._open.any(0).nonzero().flatten()

    @property
    def left(self) -> int:
        """Images that may still be looked at for each class; 0 once all are found."""
        return self.budget - self.used if self._open.any() else 0

    def look(self, images: Tensor, classes: Tensor) -> Tensor:
        """Log-probabilities [P,A,n] of each class for images [P,A,n,C,H,W] of its own.

        classes: [A], all that are `open`. At most `left` images each.
        """
        logits = self.population(images.flatten(1, 2)).unflatten(1, images.shape[1:3])
        asked = classes.view(-1, 1, 1).expand(*images.shape[:3], 1)
        scores = logits.log_softmax(-1).gather(-1, asked).squeeze(-1)
        self._note(images.detach(), scores.detach(), classes)
        return scores

    def _note(self, images: Tensor, scores: Tensor, classes: Tensor) -> None:
        enough = scores >= self.enough
        found, was_open = enough.any(-1), self._open[:, classes]
        chosen = torch.where(found, enough.byte().argmax(-1), scores.argmax(-1))[..., None]
        score = scores.gather(-1, chosen).squeeze(-1)
        better = was_open & (score > self.scores[:, classes])
        image = images.take_along_dim(chosen[..., None, None, None], 2).squeeze(2)
        self.images[:, classes] = torch.where(
            better[..., None, None, None], image, self.images[:, classes]
        )
        self.scores[:, classes] = torch.where(better, score, self.scores[:, classes])
        count = self.used + 1 + chosen.squeeze(-1)
        self.evaluations[:, classes] = torch.where(
            was_open & found, count, self.evaluations[:, classes]
        )
        self._open[:, classes] = was_open & ~found
        self.used += scores.shape[-1]


@torch.no_grad()
def evolve(
    search: Search, size: int, decode: Callable[[Tensor], Tensor], rng: torch.Generator
) -> None:
    """Searches by a genetic algorithm for each class of each network.

    Parents are the better of two drawn at random, a child has each gene of either, and the best of
    parents and children live on.

    Args:
        size: G, genes of an individual, in [0,1].
        decode: genes [P,A,n,G] -> images [P,A,n,C,H,W] in [0,1].
        rng: on the CPU.
    """
    classes = search.open

    def draw(*shape: int) -> Tensor:
        """Numbers in [0,1) for the classes that are left, whichever these are, and all networks."""
        numbers = torch.rand(search.classes, *shape, generator=rng).to(classes.device)[classes]
        return numbers.expand(len(search.population), *numbers.shape)

    genes = draw(INDIVIDUALS, size)[:, :, : search.left]
    scores = search.look(decode(genes), classes)
    while search.left:
        kept = torch.isin(classes, search.open)
        genes, scores, classes = genes[:, kept], scores[:, kept], classes[kept]
        rivals = (draw(2, INDIVIDUALS, 2) * INDIVIDUALS).long()
        mixed, mutated = draw(INDIVIDUALS, size), draw(INDIVIDUALS, size)
        first, second = _parents(genes, scores, rivals).unbind(2)
        children = mutate(torch.where(mixed < 0.5, first, second), mutated)[:, :, : search.left]
        genes = torch.cat([genes, children], 2)
        scores = torch.cat([scores, search.look(decode(children), classes)], 2)
        best = scores.topk(INDIVIDUALS).indices
        genes, scores = _chosen(genes, best), scores.gather(2, best)


def _parents(genes: Tensor, scores: Tensor, rivals: Tensor) -> Tensor:
    """[P,A,2,n,G], the fitter of each two rivals [P,A,2,n,2], which are indices of individuals."""
    flat = rivals.flatten(2)
    fitter = scores.gather(2, flat).view_as(rivals).argmax(-1, keepdim=True)
    winners = rivals.gather(-1, fitter).flatten(2)
    return _chosen(genes, winners).unflatten(2, rivals.shape[2:4])


def _chosen(genes: Tensor, individuals: Tensor) -> Tensor:
    """The genes [P,A,n,G] of individuals, indices [P,A,n]."""
    return genes.gather(2, individuals[..., None].expand(-1, -1, -1, genes.shape[-1]))


def mutate(genes: Tensor, draws: Tensor) -> Tensor:
    """Genes in [0,1] after polynomial mutation of those whose draw in [0,1) is below `MUTATED`."""
    mutated = draws < MUTATED
    chance, power = draws[mutated] / MUTATED, 1 / (STRENGTH + 1)
    change = torch.where(chance < 0.5, (2 * chance) ** power - 1, 1 - (2 - 2 * chance) ** power)
    return genes.masked_scatter(mutated, (genes[mutated] + change).clamp(0, 1))


def pattern_size(shape: tuple[int, int, int]) -> int:
    """The genes of a pattern of that shape."""
    return UNITS * (4 + UNITS + shape[0])


def patterns(genes: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images [...,C,H,W] that small networks of pixels' places paint; their weights are the genes.

    Such a network sees a pixel's x and y in [-1,1], its distance from the centre, and 1. Two layers
    follow whose units apply sine, Gaussian, sigmoid or nothing, and a sigmoid for each channel. The
    topology is fixed, unlike in Nguyen et al., where evolution grows it.

    genes: [...,G] in [0,1], G as `pattern_size` has it.
    """
    channels, height, width = shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=genes.dtype, device=genes.device),
        torch.linspace(-1, 1, width, dtype=genes.dtype, device=genes.device),
        indexing="ij",
    )
    places = torch.stack([x, y, x.hypot(y), torch.ones_like(x)]).flatten(1)
    sizes = [UNITS * 4, UNITS * UNITS, channels * UNITS]
    first, second, last = (SPAN * (2 * genes - 1)).split(sizes, dim=-1)
    hidden = _functions(first.unflatten(-1, (UNITS, 4)) @ places)
    hidden = _functions(second.unflatten(-1, (UNITS, UNITS)) @ hidden)
    painted = last.unflatten(-1, (channels, UNITS)) @ hidden
    return painted.sigmoid().unflatten(-1, (height, width))


def _functions(sums: Tensor) -> Tensor:
    """What units make of [...,UNITS,pixels], a quarter each by another function."""
    sine, gaussian, sigmoid, linear = sums.chunk(4, dim=-2)
    return torch.cat([sine.sin(), (-gaussian.square()).exp(), sigmoid.sigmoid(), linear], dim=-2)


def ascend(search: Search, rng: torch.Generator) -> None:
    """Searches from noise by steps along the sign of the log-probability's gradient.

    rng: on the CPU.
    """
    classes = search.open
    start = torch.rand(search.classes, 1, *search.shape, generator=rng).to(classes.device)
    images = start.expand(len(search.population), *start.shape)
    while search.left:
        kept = torch.isin(classes, search.open)
        images, classes = images[:, kept].requires_grad_(), classes[kept]
        with torch.enable_grad():
            scores = search.look(images, classes)
        (slope,) = torch.autograd.grad(scores.sum(), images)
        images = (images.detach() + STEP * slope.sign()).clamp(0, 1)
