"""What the training of a generator takes, counted as that of a network trained directly."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hypergen.config import TrainConfig
from hypergen.measures import Accuracy, Measure, Robustness
from hypergen.runtime.ranks import place


class Cost:
    """What the steps of a run have taken so far.

    Args:
        config: of the run.
        device: what it is trained on.

    Attributes:
        seconds: on a CPU the process's time on all cores together, that of other work in the same
            process included; on a GPU by the clock; None where other processes share the steps.
        gradient_evaluations: images' gradients for weights or for the images themselves, of all
            networks together, V's measurements included; None where nobody can tell: for other
            measures than accuracy and robustness by the run's own attack, and where the gradient
            comes from a value network of another kind than `set`.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config = config
        self.seconds: float | None = 0.0 if place().count == 1 else None
        self.gradient_evaluations: int | None = 0
        self._clock = time.process_time if device.type == "cpu" else time.perf_counter

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Adds the seconds that the body takes."""
        begun = self._clock()
        yield
        if self.seconds is not None:
            self.seconds += self._clock() - begun

    def add_step(
        self, measures: Sequence[Measure], weights: Tensor, images: int, steps: int, fits: bool
    ) -> None:
        """Adds the gradients of a step of the generator.

        Args:
            weights: [P,M], of all networks, one a measure.
            images: how many each network sees.
            steps: of each attack.
            fits: whether V is fitted in the step.
        """
        kind, networks = self.config.objective.kind, len(weights)
        passes = {
            "direct": int(weights.any(0).sum()),
            "value": len(measures),
            "hybrid": 2 * len(measures),
        }
        if kind != "direct" and self.config.value_network.kind != "set":
            self.gradient_evaluations = None
        self.add_attacks(measures, networks * images, steps)
        if fits:
            again = networks if kind == "direct" else 0  # the generator learns from other images
            near = min(networks, self.config.value_network.num_perturbed)
            self.add_attacks(measures, (again + near) * images, steps)
        if self.gradient_evaluations is not None:
            self.gradient_evaluations += passes[kind] * networks * images

    def add_attacks(self, measures: Sequence[Measure], count: int, steps: int) -> None:
        """Adds what it takes to attack `count` images by so many steps for each measure."""
        attacked = [measure for measure in measures if isinstance(measure, Robustness)]
        others = [each for each in measures if not isinstance(each, Accuracy | Robustness)]
        if others or any(measure.only_broken for measure in attacked):
            self.gradient_evaluations = None
        if self.gradient_evaluations is not None:
            self.gradient_evaluations += count * len(attacked) * steps

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "seconds_trained": self.seconds,
            "gradient_evaluations": self.gradient_evaluations,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken; earlier checkpoints do not tell."""
        seconds = state.get("seconds_trained")
        self.seconds = None if self.seconds is None else seconds
        self.gradient_evaluations = state.get("gradient_evaluations")
