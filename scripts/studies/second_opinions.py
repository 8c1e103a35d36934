"""Measures taken once more, network by network, by implementations that are not ours.

Each takes a module, images [N,C,H,W] in [0,1], labels [N] and the options of a measure, and gives
a figure in [0,1].
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.transforms.functional import adjust_contrast

from hypergen.measure_spec import MeasureSpec

DRAWS = 5
"""Of noise on the weights."""
QUERIES, SQUARE_IMAGES = 5000, 200
BINS = 15

Opinion = Callable[..., float]


def second_opinion(asked: str, epsilon: float) -> Callable[[nn.Module, Tensor, Tensor], float]:
    """Another implementation of the measure asked for, such as pruned:share=0.8.

    epsilon: radius in linf of attacks. `KeyError`: there is none.
    """
    spec = MeasureSpec.parse(f"{asked}=1")
    options: dict[str, Any] = dict(spec.options)
    if spec.kind == "square":
        options = {"epsilon": epsilon}
    opinion = OPINIONS[spec.kind]
    return lambda module, images, labels: opinion(module, images, labels, **options)


@torch.no_grad()
def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images classified correctly."""
    return float((_logits(module, images).argmax(-1) == labels).double().mean())


def pruned(module: nn.Module, images: Tensor, labels: Tensor, share: float) -> float:
    """By torch.nn.utils.prune: the smallest weights of all layers together are set to 0."""
    module = copy.deepcopy(module)
    weights = [(layer, "weight") for layer in _layers(module)]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=share)
    return accuracy(module, images, labels)


@torch.no_grad()
def int8(module: nn.Module, images: Tensor, labels: Tensor, bits: float) -> float:
    """By PyTorch's own fake quantisation, a scale for each output channel."""
    module = copy.deepcopy(module)
    most = 2 ** (int(bits) - 1) - 1
    for layer in _layers(module):
        scale = layer.weight.flatten(1).abs().amax(1) / most
        zeros = torch.zeros(len(scale), dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(layer.weight, scale, zeros, 0, -most, most)
        layer.weight.copy_(rounded)
    return accuracy(module, images, labels)


@torch.no_grad()
def weight_noise(module: nn.Module, images: Tensor, labels: Tensor, std: float) -> float:
    """The mean over several draws of noise, added tensor by tensor."""
    found = []
    for seed in range(DRAWS):
        noisy, rng = copy.deepcopy(module), torch.Generator().manual_seed(1000 + seed)
        for weight in noisy.parameters():
            noise = torch.randn(weight.shape, generator=rng)
            weight += std * weight.std(correction=0) * noise
        found.append(accuracy(noisy, images, labels))
    return sum(found) / DRAWS


def contrast(module: nn.Module, images: Tensor, labels: Tensor, factor: float) -> float:
    """By torchvision; of grey images."""
    return accuracy(module, adjust_contrast(images, factor), labels)


def worst_class(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """By scikit-learn: the recall of the class that has least."""
    from sklearn.metrics import recall_score  # here, for it takes seconds

    guessed = _logits(module, images).argmax(-1)
    recall = recall_score(labels.numpy(), guessed.numpy(), average=None)  # pyright: ignore
    return float(np.min(recall))


def calibration(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """1 - expected calibration error, bin by bin in NumPy."""
    shares = _logits(module, images).double().softmax(-1).numpy()
    sure, right = shares.max(-1), shares.argmax(-1) == labels.numpy()
    of_bin = np.digitize(sure, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    gaps = [
        np.mean(of_bin == each) * abs(right[of_bin == each].mean() - sure[of_bin == each].mean())
        for each in np.unique(of_bin)
    ]
    return 1 - float(sum(gaps))


def square(module: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> float:
    """By torchattacks, at the queries of AutoAttack, on the first images alone."""
    import torchattacks  # here, for it takes a second

    images, labels = images[:SQUARE_IMAGES], labels[:SQUARE_IMAGES]
    attack = torchattacks.Square(module, norm="Linf", eps=epsilon, n_queries=QUERIES, seed=0)
    return accuracy(module, attack(images, labels), labels)


@torch.no_grad()
def _logits(module: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([module(some) for some in images.split(1000)])


def _layers(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


OPINIONS: dict[str, Opinion] = {
    "calibration": calibration,
    "contrast": contrast,
    "int8": int8,
    "pruned": pruned,
    "square": square,
    "weight-noise": weight_noise,
    "worst-class": worst_class,
}
