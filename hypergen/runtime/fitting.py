"""How much is computed at once, so that it fits the memory: networks, images, jobs side by side.

What a gradient needs is not guessed: the network is tried, without numbers, on one image and on all
of them (`Population.bytes_live`), and grows evenly in between.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hypergen.budget import allowed, budget, room
from hypergen.errors import InputError
from targets import Ensemble, Population

BATCH_IMAGES = 256
"""Images of one network evaluated at once."""
GPU_BATCH_IMAGES = 2048
"""The same on a GPU with the memory, where so many take hardly longer; fewer where they need it."""
KEPT_SHARE = 0.25
"""Of a GPU's memory, for what a chunk keeps for its backward pass; attacks and gradients need more
beside it."""
PEAK = 1.5
"""Bytes that a CPU needs for each of a network's tensors: its kernels make copies in their own
format. Measured on convolutional nets: 1.36 to 1.42."""
WEIGHT_COPIES = 3
"""Of a network's weights, where their gradient is computed."""
IMAGE_COPIES = 16
"""What an attack on a network holds, in copies of its images."""
FEW_IMAGES = 16
"""With fewer at a time than these it is quicker to let a core rest."""
CERTAIN = 0.05
"""Share of the memory up to which nobody asks how much is left."""
GIB = 2.0**30


@dataclass(frozen=True)
class Fit:
    """How much at once.

    networks: in a chunk; None for what `Population.chunks` takes by itself.
    images: seen at a time, see `Population.in_parts`; None for all.
    workers: jobs side by side; None for one a core.
    """

    networks: int | None = None
    images: int | None = None
    workers: int | None = None


def fit(
    population: Population | Ensemble, images: Tensor, passes: int = 1, workers: int | None = None
) -> Fit:
    """How much is computed at once of networks that see images [N,C,H,W] each.

    passes: how often they see so many before the gradient of all is taken; workers: jobs side by
    side at most, by default one a core.

    Raises:
        InputError: on a CPU, more memory than was allowed is needed for one image of one network,
            or for its batch where batch norm is by the batch.
    """
    memory = gpu_memory(images.device)
    if memory is not None:
        return _fit_gpu(population, images, memory)
    need = partial(bytes_needed, population, images, passes)
    cores = workers or torch.get_num_threads()
    if cores * need(None) <= CERTAIN * budget():
        return Fit()
    left = room()
    whole = isinstance(population, Population) and population.by_batch
    parts = [len(images)] if whole else _halves(len(images))
    for jobs in range(cores, 0, -1):
        for part in (None, *parts):
            few = part is not None and part < min(FEW_IMAGES, len(images)) and jobs > 1
            if not few and jobs * need(part) <= left:
                return Fit(None, part, jobs)
    if allowed() is not None:
        what = f"{len(images)} images" if whole else "one image"
        raise InputError(
            f"one network on {what} needs about {need(parts[-1]) / GIB:.2f} GiB of memory, and of "
            f"the {budget() / GIB:.2f} GiB of `memory` {max(0, left) / GIB:.2f} are left; raise it"
        )
    return Fit(None, parts[-1], 1)


def _fit_gpu(population: Population | Ensemble, images: Tensor, memory: int) -> Fit:
    """On a GPU of so many bytes: one job, fewer images at a time only where they were limited."""
    networks = networks_at_once(population, images, memory)
    if allowed() is None:
        return Fit(networks, None, 1)
    members = population.members if isinstance(population, Ensemble) else population[:1]
    for part in (len(images), *_halves(len(images))):
        kept = len(members) * members.bytes_kept(images[:part])
        if kept <= KEPT_SHARE * memory:
            break
    return Fit(networks, None if part == len(images) else part, 1)


def bytes_needed(
    population: Population | Ensemble, images: Tensor, passes: int = 1, part: int | None = None
) -> float:
    """About what a job on a CPU holds at its peak: one network, or all that vote.

    images: [N,C,H,W]; part: how many of them are seen at a time (see `Population.in_parts`).
    """
    vote = isinstance(population, Ensemble)
    members = population.members if vote else population
    at_once = len(images) if part is None else part
    # Shapes decide, and each is tried once.
    one, most = (members.bytes_live(images[:count]) for count in (1, len(images)))
    live = one + (most - one) * (at_once - 1) / max(1, len(images) - 1)
    if part is None:
        live *= passes * (len(members) if vote else 1)
    copies = 0 if vote else WEIGHT_COPIES * members.theta.nbytes / len(members)
    return PEAK * live + IMAGE_COPIES * images.nbytes + copies


def _halves(count: int) -> list[int]:
    """Half of them, a quarter, ... one."""
    halves = []
    while count > 1:
        count = -(-count // 2)
        halves.append(count)
    return halves or [1]


def networks_at_once(
    population: Population | Ensemble, images: Tensor, memory: int | None = None
) -> int | None:
    """Returns how many networks a GPU attacks, or differentiates, at once on images [N,C,H,W] each.

    None elsewhere, and for an ensemble.

    memory: bytes; by default what may be used of the images' device (see `gpu_memory`).
    """
    memory = gpu_memory(images.device) if memory is None else memory
    if memory is None or isinstance(population, Ensemble):
        return None
    return max(1, int(KEPT_SHARE * memory / population.bytes_kept(images)))


def images_at_once(
    population: Population | Ensemble, images: Tensor, memory: int | None = None
) -> int:
    """Returns how many of images [N,C,H,W] to evaluate at once, whatever the population's size.

    On a GPU as many of 1, 2, 4, ... 2,048 as its memory holds for one network (or all that vote):
    all of its memory, for an attack draws its random starts for so many at once, and what was
    allowed must not decide results.

    memory: bytes; by default those of the GPU.
    """
    if memory is None and images.device.type == "cuda":
        memory = torch.cuda.get_device_properties(images.device).total_memory
    if memory is None:
        return BATCH_IMAGES
    members = population.members if isinstance(population, Ensemble) else population[:1]
    some = images[:BATCH_IMAGES]
    kept_an_image = len(members) * members.bytes_kept(some) / len(some)
    size = GPU_BATCH_IMAGES
    while size > 1 and size * kept_an_image > KEPT_SHARE * memory:
        size //= 2
    return size


def usable_memory(device: torch.device) -> int | None:
    """Returns the bytes that are there for what is to be made; None for all of the machine's."""
    memory = gpu_memory(device)
    return room() if memory is None and allowed() is not None else memory


def gpu_memory(device: torch.device) -> int | None:
    """Returns the bytes of a GPU that may be used; None for a CPU."""
    if device.type != "cuda":
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    return min(total, allowed() or total)
