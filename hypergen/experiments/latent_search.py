"""Proposes latent samples and preferences whose networks the value network thinks highly of.

Nothing is measured here: the value network V stands for the measures, which costs a fraction.
Optuna's samplers ask V as they would ask any black box; `gradient` descends through it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import optuna
import torch
from torch import Tensor

from hypergen.data import Dataset
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.samplers import build_sampler
from hypergen.measures import prepare_batch
from hypergen.models.latent import draw_preferences, preference_weights
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.torch_state import usual_state
from hypergen.training import objective
from hypergen.training.value_fitter import draw_seed

Method = Literal["gradient", "tpe", "nsga2", "nsga3", "gp", "random"]
BATCH = 50
"""Candidates that V looks at together: the size of a generation of NSGA-II."""
TAIL = 0.001
"""Share of a normal z's values at either end that Optuna does not ask for."""
ASCENT_STEPS = 10
"""Steps of `gradient` from each random start; each costs as much as a candidate."""
ASCENT_RATE = 0.1
"""Adam's learning rate there, in standard deviations of z."""
ASCENT_IMAGES = 128
"""Training images of each of these steps."""


@dataclass(frozen=True)
class Candidates:
    """z [N,Z], preferences [N] or [N,M], and the measures [N,M] as V estimates them at least.

    That is less V's uncertainty, on validation images.
    """

    z: Tensor
    preference: Tensor
    estimates: Tensor


@usual_state()
def propose(
    sampler: Sampler,
    dataset: Dataset,
    count: int,
    method: Method,
    seed: int,
    progress: Progress = SILENT,
) -> Candidates:
    """Looks at `count` candidates, found by the method; all of them."""
    progress.start(count)
    if method == "gradient":
        return _ascended(sampler, dataset, count, seed, progress)
    directions = [optuna.study.StudyDirection.MAXIMIZE] * len(sampler.measures)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=directions, sampler=build_sampler(method, seed))
    found = []
    for start in range(0, count, BATCH):
        trials = [study.ask() for _ in range(min(BATCH, count - start))]
        z = torch.tensor([_suggest_z(trial, sampler) for trial in trials])
        preference = torch.tensor([_suggest_preference(trial, sampler) for trial in trials])
        found.append(_looked_at(sampler, dataset, z, preference))
        for trial, values in zip(trials, found[-1].estimates.tolist(), strict=True):
            study.tell(trial, values)
        progress.advance(len(trials))
    return _joined(found)


def _looked_at(sampler: Sampler, dataset: Dataset, z: Tensor, preference: Tensor) -> Candidates:
    estimates, uncertainty = sampler.estimate(sampler.generate(z, preference), dataset)
    return Candidates(z, preference, (estimates - uncertainty).cpu())


def _joined(found: list[Candidates]) -> Candidates:
    parts = zip(*((each.z, each.preference, each.estimates) for each in found), strict=True)
    return Candidates(*map(torch.cat, parts))


def _suggest_z(trial: optuna.Trial, sampler: Sampler) -> list[float]:
    """One z [Z], equally likely everywhere under the law that it is drawn by."""
    latent = sampler.models.latent
    shares = [trial.suggest_float(f"z{i}", TAIL, 1 - TAIL) for i in range(latent.size)]
    return latent.quantile(torch.tensor(shares)).tolist()


def _suggest_preference(trial: optuna.Trial, sampler: Sampler) -> float | list[float]:
    """One preference within what the generator was trained for, a number or the weights [M]."""
    objective_config, knob = sampler.config.objective, sampler.config.knob
    if not objective_config.has_many_preferences:
        low, high = knob.given_range
        return trial.suggest_float(knob.name, low, high) if knob.is_ranged else low
    specs = objective_config.specs
    shares = [
        -math.log(trial.suggest_float(spec.name, TAIL, 1)) if spec.is_ranged else 0.0
        for spec in specs
    ]
    whole = sum(shares) or 1.0
    weights = [
        spec.low + (spec.high - spec.low) * share / whole
        for spec, share in zip(specs, shares, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]


def _ascended(
    sampler: Sampler, dataset: Dataset, count: int, seed: int, progress: Progress
) -> Candidates:
    """Random starts, and where the gradient of V's estimates leads from each of them.

    Each start climbs for weights of its own, drawn as preferences are; where the generator takes
    preferences these are what it is asked for. The ascent looks at training images.
    """
    rng = torch.Generator().manual_seed(seed)
    found: list[Candidates] = []
    left = count
    while left > 0:
        starts = max(1, min(BATCH, left // (ASCENT_STEPS + 1)))
        z = sampler.models.latent.draw(starts, rng)
        preference = draw_preferences(starts, sampler.config, rng)
        found.append(_looked_at(sampler, dataset, z, preference))
        left -= starts
        steps = min(ASCENT_STEPS, left // starts)
        progress.advance(starts)
        if steps:
            z = _climb(sampler, dataset, z, preference, steps, rng, progress)
            found.append(_looked_at(sampler, dataset, z, preference))
            left -= steps * starts
    return _joined(found)


def _climb(
    sampler: Sampler,
    dataset: Dataset,
    z: Tensor,
    preference: Tensor,
    steps: int,
    rng: torch.Generator,
    progress: Progress,
) -> Tensor:
    """z [P,Z] after so many steps up V's estimates, weighted as each network's preference says."""
    models, device = sampler.models, dataset.device
    weights = preference_weights(preference, sampler.config).to(device)
    moved = z.to(device, copy=True).requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=ASCENT_RATE * models.latent.deviation)
    for _ in range(steps):
        images, labels = dataset.train.draw(ASCENT_IMAGES, rng)
        theta = models.ema(moved, preference.to(device))
        population = sampler.generate(moved.detach().cpu(), preference)
        stage = sampler.value_stage(draw_seed(rng))
        batch = prepare_batch(sampler.measures, population, images, labels, stage)
        networks = population, batch, weights
        _, slope = objective.gradient("value", *networks, models.value, sampler.measures)
        (moved.grad,) = torch.autograd.grad(theta, moved, slope)
        optimizer.step()
        with torch.no_grad():
            moved.copy_(models.latent.clipped(moved, TAIL))
        progress.advance(len(z))
    return moved.detach().cpu()
