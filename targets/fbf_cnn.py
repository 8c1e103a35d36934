"""The MNIST network of "Fast is better than free" (Wong, Rice, Kolter 2020)."""

from torch import Tensor, nn

from targets.activations import make_activation
from targets.lenet import flat_size


class FBFCNN(nn.Module):
    """166,406 weights on 28x28 grey images; images [B,C,H,W] in [0,1] -> logits [B,K]."""

    def __init__(self, activation: str, num_classes: int, input_shape: tuple[int, int, int]):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_shape[0], 16, 4, stride=2, padding=1),
            make_activation(activation, 16),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            make_activation(activation, 32),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_size(self.features, input_shape), 100),
            make_activation(activation, 100),
            nn.Linear(100, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
