"""Splits networks and images into batches that fit the memory."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import Tensor

import attacks
from hypergen.runtime.fitting import BATCH_IMAGES, Fit, fit, images_at_once
from targets import Ensemble, Population, parallel_map

Networks = TypeVar("Networks", bound=Population | Ensemble)
R = TypeVar("R")


def map_chunks(
    function: Callable[[Networks, slice], Tensor], population: Networks, images: Tensor
) -> Tensor:
    """Returns [P,N,...], put together of what `function` makes of chunks of networks and images.

    Args:
        function: p networks, and which n of the images they see -> [p,n,...].
        images: [N,C,H,W].
    """
    size = images_at_once(population, images)
    found = fit(population, images[:size])
    jobs = list(chunk_jobs(population, images, size, found))

    def run(job: tuple[slice, Networks, slice]) -> Tensor:
        network_slice, chunk, image_slice = job
        with counted_from(network_slice.start):
            return function(chunk, image_slice)

    done = parallel_map(run, jobs, found.workers)
    whole = None
    for (network_slice, _, image_slice), values in zip(jobs, done, strict=True):
        if whole is None:
            whole = values.new_empty(len(population), len(images), *values.shape[2:])
        whole[network_slice, image_slice] = values
    assert whole is not None  # there is no population without networks
    return whole


@contextlib.contextmanager
def counted_from(first: int) -> Iterator[None]:
    """Inside, an attack's error counts its networks within a chunk; outside, within all of them.

    first: which of all networks is the chunk's first.
    """
    try:
        yield
    except attacks.AttackError as error:
        error.networks = [first + index for index in error.networks]
        raise


def map_networks(
    function: Callable[[slice, Population], R],
    population: Population,
    images: Tensor,
    passes: int = 1,
) -> list[R]:
    """Returns `function` of each chunk of networks that fits the memory: (which networks, these).

    images: [N,C,H,W], seen by each network; passes: see `fit`. On a CPU several are at work at
    once.
    """
    found = fit(population, images, passes)
    jobs = population.in_parts(found.images).chunks(found.networks)
    return list(parallel_map(lambda job: function(*job), jobs, found.workers))


def chunk_jobs(
    population: Networks, images: Tensor, batch_size: int, found: Fit, one_at_a_time: bool = False
) -> Iterator[tuple[slice, Networks, slice]]:
    """Yields the work in parts of bounded size: (which networks, these networks, which images).

    Args:
        images: [N,C,H,W].
        batch_size: images of a part.
        found: what fits of so many images.
        one_at_a_time: a single network in each part, whatever the memory holds.
    """
    parts = population.in_parts(found.images).chunks(1 if one_at_a_time else found.networks)
    for network_slice, chunk in parts:
        for start in range(0, len(images), batch_size):
            yield network_slice, chunk, slice(start, min(start + batch_size, len(images)))


def chunks(population: Networks, images: Tensor) -> Iterator[tuple[slice, Networks]]:
    """Yields the population in chunks that fit the memory: (which networks, these networks).

    images: [N,C,H,W], seen by each network.
    """
    found = fit(population, images)
    return population.in_parts(found.images).chunks(found.networks)


def recalibrated(population: Population, images: Tensor) -> Population:
    """Returns the networks with batch-norm statistics of training images [N,C,H,W].

    As `Population.recalibrate`, with as many networks at once as the memory allows.
    """
    found = fit(population, images[:BATCH_IMAGES])
    at_once = found.networks if images.device.type == "cuda" else found.workers
    return population.recalibrate(images, BATCH_IMAGES, at_once)


def for_all(images: Tensor, population: Population | Ensemble) -> Tensor:
    """Returns the same images [N,...] (or labels) for each network, [P,N,...], without a copy."""
    return images.expand(len(population), *images.shape)
