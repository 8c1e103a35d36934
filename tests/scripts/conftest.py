import json
from functools import partial

import pytest
import torch

import attacks


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def brief(monkeypatch):
    """The standard and the adaptive suite, much shortened."""
    short = partial(attacks.standard, steps=2, queries=5)
    monkeypatch.setattr(attacks, "standard", short)
    monkeypatch.setitem(attacks.ATTACKS, "standard", short)
    adaptive = partial(attacks.adaptive, steps=2, queries=5, samples=2, schedule=((1, 4),))
    monkeypatch.setitem(attacks.ATTACKS, "adaptive", adaptive)


@pytest.fixture
def written(capsys):
    """A function to the figures in a file, which the last line printed repeats."""

    def read(path) -> dict:
        figures = json.loads(path.read_text())
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == figures
        return figures

    return read
