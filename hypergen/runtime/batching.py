"""Splits networks and images into batches that fit the memory."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

import attacks
from targets import Ensemble, Population, max_workers, parallel_map

BATCH_IMAGES = 256
"""Images of one network evaluated at once."""
GPU_BATCH_IMAGES = 2048
"""The same on a GPU with the memory, where so many take hardly longer; fewer where they need it."""
KEPT_SHARE = 0.25
"""Of a GPU's memory, for what a chunk keeps for its backward pass; attacks and gradients need more
beside it."""
Networks = TypeVar("Networks", bound=Population | Ensemble)


def map_chunks(
    function: Callable[[Networks, slice], Tensor], population: Networks, images: Tensor
) -> Tensor:
    """Returns [P,N,...], put together of what `function` makes of chunks of networks and images.

    Args:
        function: p networks, and which n of the images they see -> [p,n,...].
        images: [N,C,H,W].
    """
    jobs = list(chunk_jobs(population, images, images_at_once(population, images)))

    def run(job: tuple[slice, Networks, slice]) -> Tensor:
        network_slice, chunk, image_slice = job
        with counted_from(network_slice.start):
            return function(chunk, image_slice)

    done = parallel_map(run, jobs, max_workers(images.device))
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


def chunk_jobs(
    population: Networks, images: Tensor, batch_size: int, one_at_a_time: bool = False
) -> Iterator[tuple[slice, Networks, slice]]:
    """Yields the work in parts of bounded size: (which networks, these networks, which images).

    Args:
        images: [N,C,H,W].
        batch_size: images of a part.
        one_at_a_time: a single network in each part, whatever the memory holds.
    """
    some = images[:batch_size]
    parts = population.chunks(1) if one_at_a_time else chunks(population, some)
    for network_slice, chunk in parts:
        for start in range(0, len(images), batch_size):
            yield network_slice, chunk, slice(start, min(start + batch_size, len(images)))


def chunks(population: Networks, images: Tensor) -> Iterator[tuple[slice, Networks]]:
    """Yields the population in chunks that fit the memory: (which networks, these networks).

    images: [N,C,H,W], seen by each network.
    """
    return population.chunks(networks_at_once(population, images))


def recalibrated(population: Population, images: Tensor) -> Population:
    """Returns the networks with batch-norm statistics of training images [N,C,H,W].

    As `Population.recalibrate`, with as many networks at once as the memory allows.
    """
    return population.recalibrate(
        images, BATCH_IMAGES, networks_at_once(population, images[:BATCH_IMAGES])
    )


def networks_at_once(
    population: Population | Ensemble, images: Tensor, memory: int | None = None
) -> int | None:
    """Returns how many networks a GPU attacks, or differentiates, at once on images [N,C,H,W] each.

    None elsewhere, and for an ensemble.

    memory: bytes; by default what the images' device has (see `gpu_memory`).
    """
    memory = gpu_memory(images.device) if memory is None else memory
    if memory is None or isinstance(population, Ensemble):
        return None
    return max(1, int(KEPT_SHARE * memory / population.bytes_kept(images)))


def images_at_once(
    population: Population | Ensemble, images: Tensor, memory: int | None = None
) -> int:
    """Returns how many of images [N,C,H,W] to evaluate at once, whatever the population's size.

    On a GPU as many of 1, 2, 4, ... 2,048 as its memory holds for one network (or all that vote).

    memory: as in `networks_at_once`.
    """
    memory = gpu_memory(images.device) if memory is None else memory
    if memory is None:
        return BATCH_IMAGES
    members = population.members if isinstance(population, Ensemble) else population[:1]
    some = images[:BATCH_IMAGES]
    kept_an_image = len(members) * members.bytes_kept(some) / len(some)
    size = GPU_BATCH_IMAGES
    while size > 1 and size * kept_an_image > KEPT_SHARE * memory:
        size //= 2
    return size


def gpu_memory(device: torch.device) -> int | None:
    """Returns the bytes of a GPU; None for a CPU."""
    cuda = device.type == "cuda"
    return torch.cuda.get_device_properties(device).total_memory if cuda else None


def for_all(images: Tensor, population: Population | Ensemble) -> Tensor:
    """Returns the same images [N,...] (or labels) for each network, [P,N,...], without a copy."""
    return images.expand(len(population), *images.shape)
