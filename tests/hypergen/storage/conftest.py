import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import targets
from hypergen.errors import InputError
from targets import Population


@pytest.fixture
def refused() -> Callable[..., str]:
    """The one line that a call is refused with."""

    def refused(function: Callable, *args, **kwargs) -> str:
        with pytest.raises(InputError) as caught:
            function(*args, **kwargs)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 600
        return message

    return refused


@pytest.fixture(scope="session")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def umask() -> Iterator[int]:
    """One that no default is like: files are made with mode 0o640."""
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return targets.build("small-lenet5", activation="elu").eval()


@pytest.fixture
def metadata(network) -> dict:
    return {
        "target": "small-lenet5",
        "activation": "elu",
        "num_classes": 10,
        "input_shape": [1, 28, 28],
        "layout": targets.WeightLayout.of(network).fingerprint,
        "z": [0.1, -1e-30],
        "measured": {"accuracy": 0.99, "robustness": None},
    }


@pytest.fixture
def population() -> Population:
    """Three fresh mlps."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Population.of(targets.build("mlp", input_shape=(1, 5, 5)) for _ in range(3))


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """A link that leads to itself by way of another."""
    one, other = tmp_path / "one.safetensors", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    return one
