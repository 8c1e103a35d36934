"""How long a generator is trained where nobody says it."""

import math

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.training.recipes import recipe_for

LEAST_STEPS = 1000
MULTIPLE = 2
"""Images that a generator's networks see in its training, relative to those that a network trained
directly sees in its own."""


def with_steps(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The same settings; where they leave the steps open, as many as the data and the target take.

    `InputError` or `TargetError`: there is no such target for these images.
    """
    step = config.optimisation
    if step.steps is not None:
        return config
    images = len(dataset.train)
    epochs = recipe_for(dataset.info, config.target, config.activation).epochs_on(images)
    steps = math.ceil(MULTIPLE * epochs * images / (step.population * step.batch_size))
    return config.replace(steps=max(LEAST_STEPS, steps))
