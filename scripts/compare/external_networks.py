"""Published classifiers whose weights their authors released, each as its repository defines it.

Nothing of theirs is kept here: clone the repositories into one folder.

    cd FOLDER
    git clone https://github.com/BorealisAI/advertorch          # LGPL-3.0, Ding et al. 2019
    git clone https://github.com/locuslab/fast_adversarial      # no licence, Wong et al. 2020
    git clone https://github.com/locuslab/convex_adversarial    # MIT, Wong, Kolter 2018
    git clone https://github.com/eth-sri/colt                   # Apache-2.0, Balunovic, Vechev 2020
    git clone https://github.com/Verified-Intelligence/alpha-beta-CROWN  # BSD-3, Wang et al. 2021
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hypergen.errors import InputError
from targets.normalization import Normalize


@dataclass(frozen=True)
class ExternalNetwork:
    """A released network: convolutions, each with ReLU, then two linear layers.

    Attributes:
        path: of the weights, from the folder of the repositories.
        dataset: whose test part it is for.
        epsilon: Linf radius in [0,1] it was published for.
        layers: five numbers for a convolution (channels in and out, kernel, stride, padding), one,
            the width, for max-pooling.
        sizes: features, hidden units, classes.
        normalisation: mean and deviation of each channel, taken off images in [0,1] first.
    """

    path: str
    dataset: str
    epsilon: float
    layers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, int, int]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))

    def load(self, folder: Path) -> nn.Module:
        """The network with its weights, in eval mode. InputError: no file, or other weights."""
        path = folder / self.path
        if not path.exists():
            raise InputError(
                f"no file {path}; scripts/compare/external_networks.py says what to clone"
            )
        steps: list[nn.Module] = []
        for layer in self.layers:
            if len(layer) == 1:
                steps += [nn.MaxPool2d(*layer)]
            else:
                channels, out, kernel, stride, padding = layer
                steps += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU()]
        features, hidden, classes = self.sizes
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
        return nn.Sequential(Normalize(*self.normalisation), network).eval()


def weights(path: Path) -> dict[str, Tensor]:
    """The state_dict of a file, read without running its code.

    The scaled ones of convex_adversarial are cascades: of these the first, which sees every image.
    """
    held = torch.load(path, map_location="cpu", weights_only=True)
    held = held.get("state_dict", held)
    return held[0] if isinstance(held, list) else held


# Layers and sizes that several share.
WONG = ((1, 16, 4, 2, 1), (16, 32, 4, 2, 1)), (32 * 7 * 7, 100, 10)
LENET5 = ((1, 32, 3, 1, 1), (2,), (32, 64, 3, 1, 1), (2,)), (64 * 7 * 7, 200, 10)

TRAINED = "advertorch/advertorch_examples/trained_models"
NETWORKS: dict[str, ExternalNetwork] = {
    # PGD-40 at 0.3; and the same network without any attack.
    "advertorch-pgd": ExternalNetwork(
        f"{TRAINED}/mnist_lenet5_advtrained.pt", "mnist", 0.3, *LENET5
    ),
    "advertorch-clean": ExternalNetwork(
        f"{TRAINED}/mnist_lenet5_clntrained.pt", "mnist", 0.1, *LENET5
    ),
    # FGSM from a random start, and PGD.
    "fast-fgsm": ExternalNetwork("fast_adversarial/MNIST/models/fgsm.pth", "mnist", 0.3, *WONG),
    "fast-pgd": ExternalNetwork("fast_adversarial/MNIST/models/pgd_madry.pth", "mnist", 0.3, *WONG),
    # Provable bounds by the convex outer adversarial polytope, and scaled (Wong et al. 2018).
    "convex-0.1": ExternalNetwork("convex_adversarial/models/mnist.pth", "mnist", 0.1, *WONG),
    "convex-0.3": ExternalNetwork(
        "convex_adversarial/models_scaled/mnist_small_0_3.pth", "mnist", 0.3, *WONG
    ),
    "convex-cifar": ExternalNetwork(
        "convex_adversarial/models_scaled/cifar_small_8px.pth",
        "cifar10",
        8 / 255,
        ((3, 16, 4, 2, 1), (16, 32, 4, 2, 1)),
        (32 * 8 * 8, 100, 10),
        ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    ),
    # Convex layerwise adversarial training.
    "colt": ExternalNetwork(
        "colt/trained_models/mnist_0.1_convmed_flat_2_2_100.pt",
        "mnist",
        0.1,
        ((1, 32, 5, 2, 2), (32, 64, 4, 2, 1)),
        (64 * 7 * 7, 100, 10),
        ((0.1307,), (0.3081,)),
    ),
    # ConvSmall of ERAN (Singh et al. 2019), trained by PGD, as alpha-beta-CROWN passes it on.
    "eran-cifar": ExternalNetwork(
        "alpha-beta-CROWN/complete_verifier/models/eran/cifar_conv_small_pgd.pth",
        "cifar10",
        2 / 255,
        ((3, 16, 4, 2, 0), (16, 32, 4, 2, 0)),
        (32 * 6 * 6, 100, 10),
        ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
}
