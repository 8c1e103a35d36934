"""How networks are trained directly: what steps their weights, and on which attacked images.

Grey images: the recipe of "Fast is better than free" (Wong, Rice, Kolter 2020) for MNIST, Adam with
batches of 100 for 10 epochs. Three things differ, each because networks were found better for it.
The radius trained against grows with the learning rate and then stays there (from the start at the
full one, many seeds never leave the constant classifier); it ends somewhat beyond the radius that
networks are evaluated at; of three lengths of FBF's step, 0.5, 1 and 2 times that radius instead of
always 1.25, each image gets the one that hurts most (with one length a network overfits to it; Kim
et al. 2021).

Colour images, networks with batch norm, and VGG: the paper's recipe for CIFAR-10 as published, SGD
with batches of 128 for 30 epochs, FBF's step of 1.25 times a radius that is the one evaluated at
throughout; but what is kept is a moving average of the weights, worth about six points of
robustness to PGD training (Gowal et al. 2020, "Uncovering the limits of adversarial training", and
benchmarks since). VGG has the peak learning rates of its own study (Peconi 2020): at that of
residual networks, a tenth of CIFAR-10 left it at the constant classifier. That study trained VGG
for 60 epochs, with an l2 penalty of 0.0012 on dense layers alone, and ResNet-20 for 80: more epochs
are asked for by `epochs`, the penalty is 5e-4 on all weights.

Other networks on colour images have the recipe of grey ones, at the radius evaluated at: by SGD at
that rate they do not leave the constant classifier.

On few images each recipe takes more epochs, until its network has made 480 steps: as many as digits
need.

Interval bounds (IBP, Gowal et al. 2018) have a recipe of their own on all images: 40 epochs of Adam
at 0.001, or 2,400 steps, a tenth of that rate from 70 % and a hundredth from 90 % of the training
on; radius and weight of the bounds grow from 5 % to 55 % of it, the weight to a half.

PGD training is Madry et al. 2018 with 7 steps, N-FGSM de Jorge et al. 2022, TRADES Zhang et al.
2019 with 10 steps and weight 6, each at the recipe above. Against several norms, AVG descends the
mean loss of PGD in each (Tramer, Boneh 2019, "Adversarial training and robustness for multiple
perturbations"), MSD the loss where 7 steps of `attacks.MSD` end (Maini, Wong, Kolter 2020). On
MNIST, with radii linf 0.3, l2 2 and l1 10, the authors of AVG take 10 steps of length 0.01, 0.1 and
1, those in l1 along 1 % of the pixels, and train for 10 epochs by Adam at 0.001, from half-way on
at 0.0001, the first epoch at a third of the radii (ftramer/MultiRobustness, config.json and
train.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

import attacks
from hypergen.data import DatasetInfo
from hypergen.models.bundle import as_shapes, fresh_target
from hypergen.runtime.rng import seeded
from targets import unsized

PEAK_AT = 0.4
"""Share of the training after which the learning rate is at its peak."""
PGD_STEPS = 7


def triangle(progress: float) -> float:
    """Rises from 0 to 1 at 40 % of the training and falls to 0, for progress in [0,1]."""
    return min(progress / PEAK_AT, (1 - progress) / (1 - PEAK_AT))


def in_steps(progress: float) -> float:
    """1, a tenth from 70 % of the training on, and a hundredth from 90 % on."""
    return 0.1 ** ((progress >= 0.7) + (progress >= 0.9))


def at_once(progress: float) -> float:
    """1 throughout."""
    return 1.0


def with_rate(progress: float) -> float:
    """Rises from 0 to 1 as `triangle` does, and stays there."""
    return min(1.0, progress / PEAK_AT)


def ramp(progress: float) -> float:
    """Rises from 0 to 1 between 5 % and 55 % of the training."""
    return min(1.0, max(0.0, progress - 0.05) / 0.5)


@dataclass(frozen=True)
class Recipe:
    """The published settings for images of a kind.

    epsilon_factor: radius trained against in the end, relative to the one evaluated at; growth:
    which share of it is trained against when such a share of the training is over; fbf: the class
    of the one-step attack; ema_decay: of the average of the weights that is kept, 0 for none;
    gains_by_bf16: whether such networks train faster in bf16 on CPUs that have instructions for it
    (scripts/bench/precision.py measures it); rate: as growth, of the learning rate; least_steps: of
    the weights, however few images there are.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Callable[..., Optimizer]
    settings: dict[str, Any]
    epsilon_factor: float
    growth: Callable[[float], float]
    fbf: type[attacks.RandomFGSM]
    ema_decay: float = 0.0
    gains_by_bf16: bool = False
    rate: Callable[[float], float] = triangle
    least_steps: int = 480

    def epochs_on(self, images: int) -> int:
        """Passes over so many training images: the recipe's, or what the least steps take."""
        steps = -(-images // self.batch_size)
        return max(self.epochs, -(-self.least_steps // steps))

    def radius(self, epsilon: float, factor: float | None) -> float:
        """The radius trained against in the end where networks are evaluated at `epsilon`.

        factor: of that, instead of the usual.
        """
        return epsilon * (self.epsilon_factor if factor is None else factor)

    def optimizer_of(self, parameters: Iterable[Tensor], learning_rate: float) -> Optimizer:
        """What steps these weights."""
        return self.optimizer(parameters, lr=learning_rate, **self.settings)


GREY = Recipe(10, 100, 5e-3, Adam, {}, 1.15, with_rate, attacks.LineSearchFGSM)
COLOUR = Recipe(
    *(30, 128, 0.2, SGD, {"momentum": 0.9, "weight_decay": 5e-4}, 1.0, at_once, attacks.RandomFGSM),
    ema_decay=0.9995,
    gains_by_bf16=True,
)
PLAIN_COLOUR = replace(GREY, epsilon_factor=1.0, ema_decay=0.9995)
INTERVALS = replace(
    GREY, epochs=40, learning_rate=1e-3, growth=ramp, rate=in_steps, least_steps=2400
)
"""Of training by interval bounds."""
VGG_RATES = {
    "relu": 0.08,
    "elu": 0.1,
    "swish": 0.3,
    "kaf": 1.0,
    "kaf-elu": 0.1,
    "kaf-swish": 0.8,
    "kaf-free": 2.0,
}
"""Each found by a range test."""


def recipe_for(info: DatasetInfo, target: str, activation: str) -> Recipe:
    """That of a network, by the names of its target and activation, on a data set.

    `InputError` or `TargetError`: there is no such network for these images.
    """
    if info.input_shape[0] == 1:
        return GREY
    kind = unsized(activation)
    # KAFs need all bits.
    colour = replace(COLOUR, gains_by_bf16=False) if kind.startswith("kaf") else COLOUR
    if target == "vgg":
        return replace(colour, learning_rate=VGG_RATES.get(kind, colour.learning_rate))

    def make() -> nn.Module:
        return fresh_target(target, activation, info)

    with seeded(0):  # its weights are not used, and may be more than there is memory for
        module = as_shapes(make)
        if module is None:
            module = make()
    layers = module.modules()
    is_normalized = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers)
    return colour if is_normalized else PLAIN_COLOUR


def usual_factor(info: DatasetInfo) -> float:
    """The radius trained against, relative to the one evaluated at, for images of a kind."""
    return (GREY if info.input_shape[0] == 1 else COLOUR).epsilon_factor
