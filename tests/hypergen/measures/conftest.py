import copy

import pytest
from torch import Tensor

import attacks
from targets import Population


@pytest.fixture
def threat() -> attacks.Threat:
    return attacks.Threat("linf", 0.05)


@pytest.fixture
def mixture(networks, base_network, device, dtype) -> Population:
    """A trained network among fresh ones."""
    modules = [networks[0], copy.deepcopy(base_network), networks[1]]
    return Population.of(module.to(device, dtype) for module in modules)


@pytest.fixture
def images(digits_on_device, dtype) -> tuple[Tensor, Tensor]:
    """70 images [70,1,8,8] and labels."""
    images, labels = digits_on_device.test.first(70)
    return images.to(dtype), labels
