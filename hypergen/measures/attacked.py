"""Populations under attack, in batches: the only place where targets meet attacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import attacks
from hypergen.runtime import crew
from hypergen.runtime.batching import chunk_jobs, counted_from, for_all, map_chunks
from hypergen.runtime.fitting import fit, images_at_once
from hypergen.runtime.precision import Precision, full_precision, multiplying_in
from hypergen.storage.results_cache import ResultsView
from targets import Ensemble, Population

Job = tuple[slice, Population | Ensemble, slice]
"""Which networks, these networks, and which images."""
Masks = dict[str, Tensor]
"""Which images are right, bool [P,N], by name: "clean", then each attack."""
Advance = Callable[[int], object]
"""Called with the number of network-images that are done since the last call."""


@dataclass(frozen=True)
class RobustMasks:
    """Which of N images each of P networks classifies correctly, clean and after each attack.

    clean: bool [P,N]; after: name of an attack -> bool [P,N], what is left after it and all before.
    """

    clean: Tensor
    after: dict[str, Tensor] = field(default_factory=dict)

    @property
    def robust(self) -> Tensor:
        """Which images survive all attacks, bool [P,N]; the clean mask where there were none."""
        return list(self.after.values())[-1] if self.after else self.clean

    @property
    def accuracy(self) -> Tensor:
        """[P], the share of clean images classified correctly."""
        return self.clean.double().mean(1)

    @property
    def robust_accuracy(self) -> Tensor:
        """[P], the share of images that survive all attacks."""
        return self.robust.double().mean(1)


@full_precision()
def attacked_images(
    population: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack,
    seed: int,
    precision: Precision = "float32",
) -> Tensor:
    """[P,B,C,H,W], the images [B,C,H,W] attacked against each network.

    Args:
        labels: [B].
        seed: of the attack's random starts, the same for every network.
        precision: what they are made in; bf16 is for training alone.

    Raises:
        AttackError: the networks cannot be attacked.
    """

    def run(chunk: Population | Ensemble, image_slice: slice) -> Tensor:
        stack, seeds = for_all(images[image_slice], chunk), [seed + image_slice.start] * len(chunk)
        with multiplying_in(precision, images.device):
            return attack.perturb(chunk, stack, labels[image_slice], seeds)

    return map_chunks(run, population, images)


@full_precision()
def broken_images(
    population: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack,
    seed: int,
) -> Tensor:
    """[P,B,C,H,W], what breaks each network where the attack finds it, and clean images elsewhere.

    So a network is right about just those that are robust to the attack.

    Args:
        images: [B,C,H,W].
        labels: [B].
        seed: of all that is random in the attack, the same for every network.

    Raises:
        AttackError: the networks cannot be attacked.
    """

    def run(chunk: Population | Ensemble, image_slice: slice) -> Tensor:
        stack, seeds = for_all(images[image_slice], chunk), [seed + image_slice.start] * len(chunk)
        return attack(chunk, stack, labels[image_slice], seeds).images

    return map_chunks(run, population, images)


@full_precision()
def attack_population(
    population: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack | None,
    seed: int,
    batch_size: int | None = None,
    advance: Advance = lambda count: None,
    cache: ResultsView | None = None,
) -> RobustMasks:
    """Which of images [N,C,H,W] every network classifies correctly, clean and under an attack.

    Every network gets the same `seed`, so a network's result does not depend on the population it
    is in. What `cache` holds is not done again, and what is done goes there.

    Args:
        labels: [N].
        attack: None for clean images alone.
        batch_size: see `images_at_once`; an attack's random starts are drawn batch by batch.
        advance: called with the number of network-images done.

    Raises:
        AttackError: as from the attack, about networks as they are counted in `population`.
    """
    batch_size = batch_size or images_at_once(population, images)
    alone = attack is not None and attack.one_at_a_time
    found = fit(population, images[:batch_size])
    jobs = list(chunk_jobs(population, images, batch_size, found, alone))

    def known(job: Job) -> Masks | None:
        return None if cache is None else cache.get(*job[1:])

    def is_known(job: Job) -> bool:
        return known(job) is not None

    def received(job: Job, masks: Masks) -> None:
        _, chunk, image_slice = job
        if cache is not None:
            cache.put(chunk, image_slice, masks)
        advance(len(chunk) * (image_slice.stop - image_slice.start))

    def run(job: Job) -> Masks:
        network_slice, chunk, image_slice = job
        masks = known(job)
        if masks is not None:
            advance(len(chunk) * (image_slice.stop - image_slice.start))
            return masks
        masks = _attack_chunk(chunk, images[image_slice], labels[image_slice], attack, seed, job)
        received(job, masks)
        return masks

    whole: Masks = {}
    remote = None if attack is None else _Sent(population, images, labels, attack, seed, jobs)
    done = crew.mapped(run, jobs, found.workers, remote, received, is_known)
    for (network_slice, _, image_slice), masks in zip(jobs, done, strict=True):
        for name, mask in masks.items():
            if name not in whole:
                whole[name] = labels.new_empty(len(population), len(images), dtype=torch.bool)
            whole[name][network_slice, image_slice] = mask
    return RobustMasks(whole.pop("clean"), whole)


def _attack_chunk(
    chunk: Population | Ensemble,
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack | None,
    seed: int,
    job: Job,
) -> Masks:
    """The masks of some networks on some images [n,C,H,W], bool [p,n] by name, "clean" first."""
    network_slice, _, image_slice = job
    stack = for_all(images, chunk)
    with torch.no_grad():
        masks = {"clean": chunk(stack).argmax(-1) == labels}
    if attack is None:
        return masks
    with counted_from(network_slice.start):
        result = attack(chunk, stack, labels, [seed + image_slice.start] * len(chunk))
    return masks | result.masks


class _Sent:
    """An attack as it travels to helpers (see `runtime.crew`), its tensors on the CPU meanwhile."""

    def __init__(
        self,
        population: Population | Ensemble,
        images: Tensor,
        labels: Tensor,
        attack: attacks.Attack,
        seed: int,
        jobs: Sequence[Job],
    ):
        self.networks, self.images, self.labels = population, images, labels
        self.attack, self.seed = attack, seed
        self.slices = [(network_slice, image_slice) for network_slice, _, image_slice in jobs]

    def __getstate__(self) -> dict[str, Any]:
        networks = self.networks
        as_one = isinstance(networks, Ensemble)
        members = (networks.members if as_one else networks).to("cpu")
        members = members.with_theta(members.theta.detach())
        tensors = {"images": self.images.cpu(), "labels": self.labels.cpu()}
        networks = Ensemble(members) if as_one else members
        return self.__dict__ | tensors | {"networks": networks, "on": self.images.device.type}

    def __call__(self, own: Any, number: int) -> Masks:
        """The masks of a job by its number, at a helper; on the CPU."""
        network_slice, image_slice = self.slices[number]
        networks, device = self.networks, torch.device(self.__dict__["on"])
        chunk = networks.to(device) if isinstance(networks, Ensemble) else networks[network_slice]
        chunk, job = chunk.to(device), (network_slice, chunk, image_slice)
        images, labels = (each[image_slice].to(device) for each in (self.images, self.labels))
        with full_precision():
            masks = _attack_chunk(chunk, images, labels, self.attack, self.seed, job)
        return {name: mask.cpu() for name, mask in masks.items()}


def accuracies(
    population: Population, images: Tensor, labels: Tensor, advance: Advance = lambda count: None
) -> Tensor:
    """[P], the share of images [N,C,H,W] that every network classifies correctly."""
    return attack_population(population, images, labels, None, 0, advance=advance).accuracy


@full_precision()
@torch.no_grad()
def predictions(population: Population | Ensemble, images: Tensor) -> Tensor:
    """[P,N], the class that every network puts images [N,C,H,W] into."""
    return map_chunks(
        lambda chunk, image_slice: chunk(for_all(images[image_slice], chunk)).argmax(-1),
        population,
        images,
    )


def disagreement(classes: Tensor) -> float:
    """Share of images that two networks put into different classes [P,N], mean over pairs."""
    count = len(classes)
    if count < 2:
        return 0.0
    votes = F.one_hot(classes).sum(0)  # [N,K]
    agreeing = (votes * (votes - 1)).sum(-1).double()
    return float(1 - agreeing.mean() / (count * (count - 1)))
