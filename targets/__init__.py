"""The networks whose weights are generated.

To add a target: one file with an `nn.Module` whose constructor takes (activation name, number of
classes, input shape), and one line in `TARGETS`; tests/targets/conformance.py then tests it.
Layers are declared once, in `torch.nn`; the flat layout, the population, the generator's scales and
the weight files all follow from that declaration. Images come in [0,1]: a target that wants them
normalised does so in a first layer (targets/normalization.py).
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from targets.activations import ACTIVATIONS, activation, activation_factory, unsized
from targets.fbf_cnn import FBFCNN
from targets.imagenet import ImageNetTarget
from targets.kaf import outside_dictionary
from targets.kwta import set_share
from targets.layout import Slot, TargetError, WeightLayout
from targets.lenet import LeNet5, SmallLeNet5
from targets.mlp import MLP
from targets.names import nearest
from targets.population import Ensemble, Population, concurrently, jobs_at_once
from targets.resnet import CIFARResNet, PreActResNet18
from targets.vgg import VGG, LightCNN

NORMALIZED: dict[str, Callable[..., nn.Module]] = {
    "vgg": VGG,
    "light-cnn": LightCNN,
    "resnet20": partial(CIFARResNet, depth=20),
    "resnet56": partial(CIFARResNet, depth=56),
    "preactresnet18": PreActResNet18,
}
"""With batch norm, and as `vgg-group` and `vgg-none` with group norm and with none."""

TARGETS: dict[str, Callable[[str, int, tuple[int, int, int]], nn.Module]] = {
    "small-lenet5": SmallLeNet5,
    "lenet5": LeNet5,
    "fbf-cnn": FBFCNN,
    "mlp": MLP,
    "wide-mlp": partial(MLP, hidden=(2048, 2048, 2048)),
    **NORMALIZED,
    **{
        f"{name}-{norm}": partial(make, norm=norm)
        for name, make in NORMALIZED.items()
        for norm in ("group", "none")
    },
    "alexnet": partial(ImageNetTarget, name="alexnet"),
    "resnet18": partial(ImageNetTarget, name="resnet18"),
}


def build(
    name: str,
    activation: str = "relu",
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    pretrained: bool = False,
) -> nn.Module:
    """A freshly initialised target: images [B,C,H,W] in [0,1] -> logits [B,num_classes].

    pretrained: with torchvision's weights for ImageNet, downloaded, up to the last layer; alexnet
        and resnet18 have them.

    Raises:
        TargetError: an unknown name or activation (the nearest known one is named), fewer than 2
            classes, images too small for the target, or pretrained weights that there are not or
            that cannot be downloaded.
    """
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}{nearest(name, TARGETS)}")
    if num_classes < 2:
        raise TargetError(f"a classifier needs at least 2 classes, got {num_classes}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise TargetError(f"expected an input shape (C, H, W), got {tuple(input_shape)}")
    try:
        module = TARGETS[name](activation, num_classes, input_shape)
    except RuntimeError as error:  # a convolution or pooling window that no longer fits
        raise TargetError(f"{name} cannot take images of shape {tuple(input_shape)}") from error
    if pretrained:
        if not isinstance(module, ImageNetTarget):
            raise TargetError(f"{name} has no pretrained weights; alexnet and resnet18 have")
        module.load_pretrained()
    return module


__all__ = [
    "ACTIVATIONS",
    "NORMALIZED",
    "TARGETS",
    "Ensemble",
    "Population",
    "Slot",
    "TargetError",
    "WeightLayout",
    "activation",
    "activation_factory",
    "build",
    "concurrently",
    "jobs_at_once",
    "outside_dictionary",
    "set_share",
    "unsized",
]
