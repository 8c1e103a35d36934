"""Small networks and a few images that analyses are tried on."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

import attacks
from hypergen.analysis import Context, Group
from hypergen.data import Dataset, DatasetInfo, Split
from targets import Population


def networks(make: Callable[[], nn.Module], count: int = 2, name: str = "sample") -> Group:
    """A group of freshly initialised networks, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Group(name, Population.of([make().eval() for _ in range(count)]), "tiny")


def context(
    shape: tuple[int, int, int] = (1, 6, 6), classes: int = 3, count: int = 12, epsilon: float = 0.1
) -> Context:
    """Random images [count, *shape] as the test part of a data set, and PGD of 5 steps."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(count, *shape, generator=rng)
    part = Split(images, torch.arange(count) % classes)
    info = DatasetInfo("noise", shape, tuple(map(str, range(classes))), epsilon)
    threat = attacks.Threat("linf", epsilon)
    return Context(Dataset(info, part, part, part), threat, attacks.PGD(threat, steps=5), count)


def relu_net(shape: Sequence[int] = (1, 6, 6), classes: int = 3, width: int = 8) -> nn.Module:
    """A network of two layers of ReLUs."""
    size = shape[0] * shape[1] * shape[2]
    layers = [nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, classes))
