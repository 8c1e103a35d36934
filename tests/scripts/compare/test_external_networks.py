"""Networks as others publish them."""

from dataclasses import replace

import pytest
import torch

from hypergen.errors import InputError
from scripts.compare.external_networks import ExternalNetwork
from targets import Population


def test_a_network_of_others_is_opened(tmp_path):
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 4, 2, 1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(98, 5),
        torch.nn.ReLU(),
        torch.nn.Linear(5, 3),
    )
    state = {f"net.layer{name}": tensor for name, tensor in theirs.state_dict().items()}
    state["net.lambda"] = torch.zeros(3)
    torch.save({"state_dict": [state, {}]}, tmp_path / "weights.pth")
    entry = ExternalNetwork(
        "weights.pth", "mnist", 0.1, ((1, 2, 4, 2, 1), (2,)), (98, 5, 3), ((0.2,), (0.5,))
    )
    network = entry.load(tmp_path)
    images = torch.rand(4, 1, 28, 28)
    expected = theirs((images - 0.2) / 0.5)
    torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(Population.of([network])(images[None])[0], expected)
    with pytest.raises(InputError, match="another network"):
        replace(entry, sizes=(98, 6, 3)).load(tmp_path)
    with pytest.raises(InputError, match="clone"):
        entry.load(tmp_path / "nowhere")
