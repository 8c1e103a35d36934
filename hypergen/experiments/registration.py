"""Decorators that make a user's own code known by a name, on the command line and in Python."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from hypergen.catalog import (
    ACTIVATIONS,
    ANALYSES,
    ATTACKS,
    GENERATORS,
    MEASURES,
    TARGETS,
    VALUE_NETWORKS,
)
from hypergen.data import DATASETS
from targets.outputs import select_output


def register_target(
    name: str, *, output: Any = None
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """A decorator that makes a module's class, or a function that makes one, a target.

        >>> @hypergen.register_target("tiny")
        ... class Tiny(torch.nn.Sequential):
        ...     def __init__(self, num_classes, input_shape):
        ...         size = math.prod(input_shape)
        ...         super().__init__(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))

    Args:
        name: by which `train`, the command line and weight files know it.
        output: what of the module's answer are the logits, where it answers with a tuple or a
            dictionary: an index, a key, or a function.

    The class or function takes any of activation (a name), num_classes and input_shape (C,H,W), by
    these names, or nothing. What it makes maps images [B,C,H,W] in [0,1] to logits [B,K].
    """
    if output is None:
        return TARGETS.register(name)

    def add(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        @functools.wraps(make)  # what it takes is read off its signature
        def with_logits(**arguments: Any) -> nn.Module:
            return select_output(make(**arguments), output)

        TARGETS.register(name)(with_logits)
        return make

    return add


def register_activation(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a module's class, or a function that makes one, an activation.

        >>> @hypergen.register_activation("square")
        ... class Square(torch.nn.Module):
        ...     def forward(self, values):
        ...         return values.square()

    It takes the number of channels, or nothing. Its parameters are weights like any other.
    """
    return ACTIVATIONS.register(name)


def register_dataset(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a function a data set.

        >>> @hypergen.register_dataset("noise")
        ... def noise():
        ...     images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        ...     return images, torch.arange(40) % 2
        >>> hypergen.load_dataset("noise").num_classes
        2

    It takes any of data_dir, image_size and grey by name, or nothing, and returns (images, labels),
    or two or three such pairs for train and test or train, val and test, or a `Dataset`.
    """
    return DATASETS.register(name)


def register_attack(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a class of attacks known by a name.

        >>> hypergen.register_attack("my-pgd")(attacks.PGD) is attacks.PGD
        True

    The class takes a threat and options; `attacks.Attack` says what it must have.
    """
    return ATTACKS.register(name)


def register_measure(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a function, or a class of measures, known by a name.

        >>> @hypergen.register_measure("sureness")
        ... def sureness(population, images, labels):
        ...     logits = population(images.expand(len(population), *images.shape))
        ...     return logits.softmax(-1).amax(-1).mean(1)

    A function takes a population of P networks, images [B,C,H,W] and labels [B], and whatever
    options it has by name; it returns P numbers in [0,1], the higher the better. Nothing is
    differentiated: the value network learns what they depend on. A class derives from one of those
    in hypergen/measures/base.py, and may say more of itself.
    """
    return MEASURES.register(name)


def register_analysis(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a class of analyses known by a name.

        >>> @hypergen.register_analysis("length")
        ... class Length(hypergen.Analysis):
        ...     title = "weights"
        ...     figures = {"length": "of all weights"}
        ...
        ...     def rows(self, group, context, progress):
        ...         return [{"length": float(theta.norm())} for theta in group.population.theta]
        ...
        ...     def draw(self, groups, rows, context):
        ...         figure = matplotlib.figure.Figure()
        ...         figure.subplots().hist([row["length"] for row in rows])
        ...         return figure

    The class is made without arguments; hypergen/analysis/base.py says what it may have.
    """
    return ANALYSES.register(name)


def register_generator(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a module's class, or a function that makes one, a generator.

        >>> @hypergen.register_generator("linear")
        ... class Linear(torch.nn.Module):
        ...     def __init__(self, base_weights, latent_size):
        ...         super().__init__()
        ...         self.base_weights = torch.nn.Parameter(base_weights.clone())
        ...         self.map = torch.nn.Linear(latent_size, len(base_weights))
        ...
        ...     def forward(self, z, beta):
        ...         return self.base_weights + 0.01 * self.map(z)

    It maps z [P,Z] and preferences beta [P] to weights [P,D]. `build_generator` in
    hypergen/models/generator.py says what it may take by name.
    """
    return GENERATORS.register(name)


def register_value_network(name: str) -> Callable[[Any], Any]:
    """A decorator that makes a class of value networks known by a name.

        >>> from hypergen.models.value_network import SetValueNetwork
        >>> hypergen.register_value_network("my-set")(SetValueNetwork) is SetValueNetwork
        True

    `build_value_network` in hypergen/models/value_network.py says what it may take by name.
    """
    return VALUE_NETWORKS.register(name)
