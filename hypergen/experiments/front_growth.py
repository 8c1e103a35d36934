"""How the front of one generator grows while it is trained: a cheap hypervolume now and then."""

from pathlib import Path
from typing import Any

import torch

import attacks
from hypergen.data import Dataset
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.run_folder import read_metrics
from hypergen.measures.attacked import accuracies, attack_population

NAME = "front/hypervolume"
"""What it is called among the metrics of a step."""
BETAS, NETWORKS, IMAGES, STEPS = 5, 2, 100, 10
"""Preferences, networks at each, validation images of each network, and steps of PGD."""


def cheap_hypervolume(sampler: Sampler, dataset: Dataset) -> float:
    """The hypervolume in [0,1] that the generator reaches in accuracy and PGD (see `trade_off`).

    Of the means of a few networks at each of several betas, or radii, always of the same z, on a
    few validation images: it tells how training goes, and is no figure to quote.
    """
    low, high = sampler.config.knob.given_range
    seed = sampler.config.optimisation.seed
    z = sampler.models.latent.draw(NETWORKS, torch.Generator().manual_seed(seed))
    betas = torch.linspace(low, high, BETAS).clamp(low, high)
    population = sampler.generate(z.repeat(BETAS, 1), betas.repeat_interleave(NETWORKS))
    images, labels = dataset.val.first(IMAGES)
    attack = attacks.PGD(sampler.config.threat, STEPS)
    robust = attack_population(population, images, labels, attack, seed).robust_accuracy
    figures = torch.stack([accuracies(population, images, labels), robust.to(torch.float64)], -1)
    means = figures.reshape(BETAS, NETWORKS, 2).mean(1)
    return hypervolume(means.tolist(), dataset.num_classes)


def growth(folder: Path, sampler: Sampler, dataset: Dataset) -> dict[str, Any]:
    """The hypervolumes of a run's training and of its end: lists of `steps` and of `values`."""
    told = [(step["step"], step[NAME]) for step in read_metrics(folder) if NAME in step]
    told.append((sampler.config.optimisation.length, cheap_hypervolume(sampler, dataset)))
    return {"steps": [step for step, _ in told], "values": [value for _, value in told]}
