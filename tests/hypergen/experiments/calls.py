"""Small calls of the Python API, and a network of a user's own."""

import math

from torch import nn

TINY = {
    "steps": 4,
    "population": 2,
    "batch_size": 16,
    "measure_every": 2,
    "replay_size": 6,
    "value_steps": 2,
    "max_robustness_gap": 1.0,
    "samples": 2,
    "images": 10,
    "sra_samples": 0,
    "baselines": False,
    "device": "cpu",
}


QUICK = {"images": 10, "steps": 2, "restarts": 1, "device": "cpu"}


class Tiny(nn.Sequential):
    """A user's own network."""

    def __init__(self, num_classes, input_shape):
        size = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, num_classes))


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(tensor.equal(theirs[name]) for name, tensor in one.state_dict().items())
