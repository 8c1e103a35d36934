"""Two VGG-like nets for CIFAR-10, as in a study of activations under attack (Peconi 2020).

Both normalise before the activation and start He-uniform. `norm` is `batch`, `group` or `none`.
"""

from torch import Tensor, nn

from targets.activations import make_activation
from targets.lenet import flat_size
from targets.normalization import normalization, normalize


class VGG(nn.Module):
    """551,018 weights on 32x32 colour images; images [B,C,H,W] in [0,1] -> logits [B,K].

    The study names five dropout rates, 0.2 to 0.4, and not where they apply. Here: after the
    pooling of the first two blocks, in the middle of the third and after its pooling, and before
    the last layer.
    """

    def __init__(
        self,
        activation: str,
        num_classes: int,
        input_shape: tuple[int, int, int],
        norm: str = "batch",
    ):
        super().__init__()
        self.features = nn.Sequential(
            normalize(input_shape[0]),
            *convolution(input_shape[0], 32, activation, norm),
            *convolution(32, 32, activation, norm),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
            *convolution(32, 64, activation, norm),
            *convolution(64, 64, activation, norm),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            *convolution(64, 128, activation, norm),
            nn.Dropout(0.3),
            *convolution(128, 128, activation, norm),
            nn.MaxPool2d(2),
            nn.Dropout(0.35),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_size(self.features, input_shape), 128),
            make_activation(activation, 128),
            nn.Dropout(0.4),
            nn.Linear(128, num_classes),
        )
        self.apply(he_uniform)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


class LightCNN(nn.Module):
    """75,370 weights on colour images of any size; images [B,C,H,W] in [0,1] -> logits [B,K].

    The net of the study's light experiments. Their dropout rate is not named; 0.25 here.
    """

    def __init__(
        self,
        activation: str,
        num_classes: int,
        input_shape: tuple[int, int, int],
        norm: str = "batch",
    ):
        super().__init__()
        self.features = nn.Sequential(
            normalize(input_shape[0]),
            *convolution(input_shape[0], 32, activation, norm),
            *convolution(32, 32, activation, norm),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            *convolution(32, 64, activation, norm),
            *convolution(64, 64, activation, norm),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_size(self.features, input_shape), 128),
            make_activation(activation, 128),
            nn.Linear(128, num_classes),
        )
        self.apply(he_uniform)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


def convolution(before: int, after: int, activation: str, norm: str) -> list[nn.Module]:
    """A 3x3 convolution, normalised and activated; a bias only where no normalisation has one."""
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=norm == "none"),
        normalization(norm, after),
        make_activation(activation, after),
    ]


def he_uniform(layer: nn.Module) -> None:
    """Initialises a convolution or dense layer after He et al. 2015."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
