"""What a generator's settings come to where nobody says it: how long it is trained, above all."""

import math

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.models.latent import prior_scale
from hypergen.training.recipes import recipe_for

LEAST_STEPS = 1000
MULTIPLE = 2
"""Images that a generator's networks see in its training, relative to those that a network trained
directly sees in its own."""


def with_steps(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The same settings with what they leave open: the random prior's size, and the steps.

    These are as many as the data and the target take.
    `InputError` or `TargetError`: there is no such target for these images.
    """
    step = config.optimisation
    if config.generator.prior_scale is None:  # so that a run's folder says it
        config = config.replace(prior_scale=prior_scale(config))
    if step.steps is not None:
        return config
    images = len(dataset.train)
    epochs = recipe_for(dataset.info, config.target, config.activation).epochs_on(images)
    steps = math.ceil(MULTIPLE * epochs * images / (step.population * step.batch_size))
    return config.replace(steps=max(LEAST_STEPS, steps))
