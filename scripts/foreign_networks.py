"""Published classifiers whose weights their authors released, each as its repository defines it.

Nothing of theirs is kept here: clone the repositories into one folder.

    cd FOLDER
    git clone https://github.com/BorealisAI/advertorch          # LGPL-3.0, Ding et al. 2019
    git clone https://github.com/locuslab/fast_adversarial      # no licence, Wong et al. 2020
    git clone https://github.com/locuslab/convex_adversarial    # MIT, Wong, Kolter 2018
    git clone https://github.com/eth-sri/colt                   # Apache-2.0, Balunovic, Vechev 2020
    git clone https://github.com/Verified-Intelligence/alpha-beta-CROWN  # BSD-3, Wang et al. 2021
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hypergen.errors import InputError


class Normalised(nn.Module):
    """Images [B,C,H,W] in [0,1], less the mean and over the deviation of each channel."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


@dataclass(frozen=True)
class Foreign:
    """A released network.

    Attributes:
        path: of the weights, from the folder of the repositories.
        dataset: whose test part it is for.
        epsilon: Linf radius in [0,1] it was published for.
        layers: convolutions and pooling; ReLU follows every convolution.
        sizes: of the linear layers, the number of features first.
        first: what it does to images in [0,1] before.
    """

    path: str
    dataset: str
    epsilon: float
    layers: tuple[nn.Module, ...]
    sizes: tuple[int, int, int]
    first: nn.Module = nn.Identity()

    def load(self, folder: Path) -> nn.Module:
        """The network with its weights, in eval mode. InputError: no file, or other weights."""
        path = folder / self.path
        if not path.exists():
            raise InputError(f"no file {path}; scripts/foreign_networks.py says what to clone")
        features, hidden, classes = self.sizes
        steps = [
            step
            for layer in self.layers
            for step in ((layer, nn.ReLU()) if isinstance(layer, nn.Conv2d) else (layer,))
        ]
        linear = nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        network = nn.Sequential(*steps, nn.Flatten(), *linear)
        # Names differ from author to author, the order of the layers does not.
        given = [
            tensor
            for name, tensor in weights(path).items()
            if name.endswith(("weight", "bias"))  # colt's proofs have parameters besides
        ]
        wanted = network.state_dict()
        if [tensor.shape for tensor in given] != [tensor.shape for tensor in wanted.values()]:
            raise InputError(f"{path} holds the weights of another network")
        network.load_state_dict(dict(zip(wanted, given, strict=True)))
        return nn.Sequential(self.first, network).eval()


def weights(path: Path) -> dict[str, Tensor]:
    """The state_dict of a file, read without running its code.

    The convex_adversarial ones of 2018 hold one for each stage of a cascade, the first of which
    classifies whatever it can; it is the network "without cascade".
    """
    held = torch.load(path, map_location="cpu", weights_only=True)
    held = held.get("state_dict", held)
    return held[0] if isinstance(held, list) else held


def conv(*args: int) -> nn.Conv2d:
    """A convolution: channels in and out, width of the kernel, stride, padding."""
    return nn.Conv2d(*args)


WONG = (conv(1, 16, 4, 2, 1), conv(16, 32, 4, 2, 1)), (32 * 7 * 7, 100, 10)
DING = (
    (conv(1, 32, 3, 1, 1), nn.MaxPool2d(2), conv(32, 64, 3, 1, 1), nn.MaxPool2d(2)),
    (64 * 7 * 7, 200, 10),
)

NETWORKS: dict[str, Foreign] = {
    # PGD-40 at .3, LeNet-5 wide; and the same network without any attack.
    "advertorch-pgd": Foreign(
        "advertorch/advertorch_examples/trained_models/mnist_lenet5_advtrained.pt",
        "mnist",
        0.3,
        *DING,
    ),
    "advertorch-clean": Foreign(
        "advertorch/advertorch_examples/trained_models/mnist_lenet5_clntrained.pt",
        "mnist",
        0.1,
        *DING,
    ),
    # "Fast is better than free": FGSM from a random start, and PGD, both at .3.
    "fast-fgsm": Foreign("fast_adversarial/MNIST/models/fgsm.pth", "mnist", 0.3, *WONG),
    "fast-pgd": Foreign("fast_adversarial/MNIST/models/pgd_madry.pth", "mnist", 0.3, *WONG),
    # Trained on provable bounds: the convex outer adversarial polytope, and its scaled version.
    "convex-.1": Foreign("convex_adversarial/models/mnist.pth", "mnist", 0.1, *WONG),
    "convex-.3": Foreign(
        "convex_adversarial/models_scaled/mnist_small_0_3.pth", "mnist", 0.3, *WONG
    ),
    "convex-cifar": Foreign(
        "convex_adversarial/models_scaled/cifar_small_8px.pth",
        "cifar10",
        8 / 255,
        (conv(3, 16, 4, 2, 1), conv(16, 32, 4, 2, 1)),
        (32 * 8 * 8, 100, 10),
        Normalised((0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    ),
    # Convex layerwise adversarial training.
    "colt": Foreign(
        "colt/trained_models/mnist_0.1_convmed_flat_2_2_100.pt",
        "mnist",
        0.1,
        (conv(1, 32, 5, 2, 2), conv(32, 64, 4, 2, 1)),
        (64 * 7 * 7, 100, 10),
        Normalised((0.1307,), (0.3081,)),
    ),
    # ConvSmall of ERAN (Singh et al. 2019), PGD-trained, as alpha-beta-CROWN passes it on.
    "eran-cifar": Foreign(
        "alpha-beta-CROWN/complete_verifier/models/eran/cifar_conv_small_pgd.pth",
        "cifar10",
        2 / 255,
        (conv(3, 16, 4, 2, 0), conv(16, 32, 4, 2, 0)),
        (32 * 6 * 6, 100, 10),
        Normalised((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
}
