import json
from functools import partial, partialmethod

import pytest
import torch

import attacks
from hypergen.cli.main import main as hypergen
from hypergen.training.trainer import Trainer


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
def brief_pretraining(monkeypatch):
    """Value networks are fitted to a base in three steps, and published generators too."""
    pretrain = partialmethod(Trainer.pretrain_value, steps=3)
    monkeypatch.setattr(Trainer, "pretrain_value", pretrain)
    start = partialmethod(Trainer.__init__, pretraining_steps=3)
    monkeypatch.setattr(Trainer, "__init__", start)


@pytest.fixture
def written(capsys):
    """A function to the figures in a file, which the last line printed repeats."""

    def read(path) -> dict:
        figures = json.loads(path.read_text())
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == figures
        return figures

    return read


@pytest.fixture
def brief_run():
    """A function that makes a run of two steps on digits in a folder, and returns the folder."""

    def run(folder, seed=0):
        options = ["--target", "mlp", "--image-size", "8", "--steps", "2", "--population", "2"]
        options += ["--batch-size", "8", "--samples", "1", "--sra-samples", "0", "--images", "4"]
        options += ["--epsilon", "0.02", "--seed", str(seed)]
        assert hypergen(["train", "--no-baseline", *options, "--out", str(folder)]) == 0
        return folder

    return run
