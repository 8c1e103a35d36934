import pytest
import torch
from torch import Tensor, nn

from hypergen.data.builtin import scikit_learn_digits


class KWTA(nn.Module):
    """Keeps the largest `share` of an image's values; its gradient, that of those, misleads."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        largest, positions = values.topk(int(self.share * values.shape[1] + 1e-9))
        return torch.zeros_like(values).scatter(1, positions, largest)


def trained(net: nn.Module, epochs: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The net, trained on most of scikit-learn's digits, with 300 other images and labels."""
    pixels, classes = scikit_learn_digits()
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes, dtype=torch.int64)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    return net.eval(), images[1400:1700], labels[1400:1700]


@pytest.fixture(scope="session")
def digits():
    """A small ordinary net."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(288, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
        return trained(net, 15)


@pytest.fixture(scope="session")
def kwta():
    """One whose gradient misleads."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = [nn.Linear(64, 512), KWTA(0.05), nn.Linear(512, 512), KWTA(0.05)]
        net, images, labels = trained(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10)), 6)
    return net, images[:60], labels[:60]
