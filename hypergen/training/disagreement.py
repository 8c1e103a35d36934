"""Holds how much samples differ at what was asked for, by the size of the random prior.

A small prior gives samples that are alike and a large one costs quality, but how alike a size makes
them differs from data set to data set, and falls as training goes on.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hypergen.config import TrainConfig
from hypergen.data import Split
from hypergen.errors import InputError
from hypergen.measures.attacked import disagreement, predictions
from hypergen.models.bundle import ModelBundle
from hypergen.models.latent import draw_preferences
from targets import Population

NETWORKS, IMAGES = 8, 250
"""Samples and validation images of a look: about 3 % of a step's time, as often as they are."""
INTERVAL = 20
"""Steps from one look to the next."""
RATE = 0.1
"""The most by which a look moves the logarithm of the prior's size."""
LEAST, GREATEST = 0.01, 10.0
"""Bounds of that size."""


class DisagreementControl:
    """Looks now and then at how much samples differ, and enlarges or shrinks the random prior.

    Args:
        config: of the run, whose `disagreement` is held; without one nothing is done.
        models: of the run: the average generator's samples are looked at, both have the prior.
        split: images to look at.
        population_of: makes networks of weights [P,D].

    Raises:
        InputError: a generator without a random prior.
    """

    def __init__(
        self,
        config: TrainConfig,
        models: ModelBundle,
        split: Split,
        population_of: Callable[[Tensor], Population],
    ):
        self.config, self.models, self.population_of = config, models, population_of
        self.goal = config.generator.disagreement
        self.split = split
        if self.goal is not None and models.prior_scale is None:
            raise InputError(
                f"the generator {config.generator.kind} has no random prior: leave out "
                "`disagreement`"
            )

    def is_due(self, step: int) -> bool:
        """Whether to look after so many steps."""
        return self.goal is not None and step % INTERVAL == 0

    @torch.no_grad()
    def steer(self, step: int) -> dict[str, float]:
        """Looks, and moves the prior's size; what was seen, and the size from here on."""
        rng = torch.Generator().manual_seed(self.config.optimisation.seed + step)
        z = self.models.latent.draw(NETWORKS, rng)
        # All of one preference: how much these differ is another matter.
        preference = draw_preferences(1, self.config, rng)
        preference = preference.expand(NETWORKS, *preference.shape[1:])
        images = self.split.first(IMAGES)[0]
        theta = self.models.ema(z.to(images.device), preference.to(images.device))
        found = disagreement(predictions(self.population_of(theta), images))
        size = self.models.prior_scale
        assert size is not None and self.goal is not None
        move = math.log(self.goal / found) if found > 0 else 1.0
        size *= math.exp(RATE * max(-1.0, min(1.0, move)))
        self.models.prior_scale = size = min(GREATEST, max(LEAST, size))
        return {"disagreement": found, "prior_scale": size}

    def state_dict(self) -> dict[str, Any]:
        """The size that was reached, for a checkpoint, where it is steered."""
        return {} if self.goal is None else {"prior_scale": self.models.prior_scale}
