"""Takes measures of a population: prepared once a batch, checked, with the budget that is due."""

from collections.abc import Iterable

import torch
from torch import Tensor

from hypergen.errors import InputError
from hypergen.measures.base import Batch, Measure, Stage, told
from hypergen.runtime.precision import full_precision
from targets import Population


def prepare_batch(
    measures: Iterable[Measure],
    population: Population,
    images: Tensor,
    labels: Tensor,
    stage: Stage,
) -> Batch:
    """The images [B,C,H,W] and labels [B] as a batch, with all that the measures need of them."""
    prepared = {}
    for measure in measures:
        with told(measure):
            made = measure.prepare(population, images, labels, stage)
        if made is not None:
            prepared[measure.name] = made
    return Batch(images, labels, prepared)


@full_precision()
@torch.no_grad()
def measured(measures: Iterable[Measure], population: Population, batch: Batch) -> Tensor:
    """[P,M], what each measure says of every network.

    Raises:
        InputError: a measure fails, or gives something else than a number in [0,1] for each one.
    """
    return torch.stack([_checked(measure, population, batch) for measure in measures], dim=-1)


def judged(
    measures: Iterable[Measure],
    population: Population,
    images: Tensor,
    labels: Tensor,
    stage: Stage,
) -> Tensor:
    """[P,M], each measure of images [B,C,H,W] with the budget that its figures are judged by.

    Errors as from `measured`.
    """
    whole = [strict(measure) for measure in measures]
    return measured(whole, population, prepare_batch(whole, population, images, labels, stage))


def strict(measure: Measure) -> Measure:
    """The measure with the budget that its figures are judged by, under the same name."""
    name = measure.name
    with told(measure):
        measure = measure.strict()
    measure.name = name
    return measure


def raised(measure: Measure, times: int) -> Measure:
    """The measure with its budget in training doubled so many times, under the same name."""
    name = measure.name
    for _ in range(times):
        with told(measure):
            measure = measure.raised()
    measure.name = name
    return measure


def _checked(measure: Measure, population: Population, batch: Batch) -> Tensor:
    with told(measure):
        values = measure(population, batch)
        if values is None:
            raise TypeError("it returns nothing, where one number for each network is expected")
        values = torch.as_tensor(values, device=population.theta.device)
    if values.shape != (len(population),):
        raise InputError(
            f"the measure {measure.name} must give one number for each of {len(population)} "
            f"networks, got shape {list(values.shape)}"
        )
    values = values.detach().double()
    good = (values >= 0) & (values <= 1)  # not so for NaN
    if not good.all():
        worst = int((~good).nonzero()[0])
        which = f" for network {worst}" if len(population) > 1 else ""
        raise InputError(
            f"the measure {measure.name} must lie in [0,1], got {float(values[worst]):g}{which}"
        )
    return values
