"""The folder that a case works in: a small run, networks, data sets and a plugin, ready made."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from PIL import Image

import attacks
from hypergen.cli.main import main
from hypergen.experiments import trials
from hypergen.registry import LOADED, REGISTRIES
from hypergen.storage.weights import load_network
from hypergen.training.direct import DirectTrainer

TRAIN = (
    "--target mlp --steps 2 --population 2 --batch-size 8 --replay-size 4 --latent-size 2 "
    "--value-steps 1 --max-robustness-gap 1 --samples 2 --images 4 --sra-samples 1 --sra-images 4"
)
BASELINE = "--method standard --target mlp --epochs 2"
SWEEP = f"sweep {TRAIN} --trials 1 --out sweep"
EVALUATE = "--images 4 --steps 1 --restarts 1"
PLUGIN = """import torch
import hypergen


@hypergen.register_target("tiny")
class Tiny(torch.nn.Sequential):
    \"\"\"One linear layer.\"\"\"

    def __init__(self, num_classes, input_shape):
        channels, height, width = input_shape
        size = channels * height * width
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))


@hypergen.register_activation("square")
class Square(torch.nn.Module):
    def forward(self, values):
        return values.square()


@hypergen.register_dataset("noise")
def noise():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(40, 1, 8, 8, generator=rng), torch.arange(40) % 10


class Mine(Tiny):
    pass
"""


def build(folder: Path) -> None:
    """Fills an empty folder with everything that cases work on."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder), prepared(), isolated():
        _command(f"train {TRAIN} --no-baseline --out run")
        _command(f"train {TRAIN} --no-baseline --beta 0:1 --out ranged")
        _command(f"baseline {BASELINE} --out finished")
        shutil.copy("finished/network.safetensors", "base.safetensors")
        state = load_network(Path("base.safetensors")).state_dict()
        torch.save(state, "plain.pt")
        safetensors.torch.save_file(dict(state), "plain.safetensors")
        Path("my_net.py").write_text(PLUGIN)
        _command("baseline --target tiny --plugin my_net.py --epochs 1 --out mine")
        _command(f"evaluate run {EVALUATE} --json figures.json")
        _command(SWEEP)
        _unfinished()
        _images()
    shutil.rmtree(folder / "runs", ignore_errors=True)


def _unfinished() -> None:
    """A run and a training that were cut short."""
    shutil.copytree("run", "unfinished", ignore=shutil.ignore_patterns("results.json", "samples"))
    train_epoch, calls = DirectTrainer.train_epoch, []

    def once(trainer: DirectTrainer, *arguments: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(trainer)
        return train_epoch(trainer, *arguments)

    with mock.patch.object(DirectTrainer, "train_epoch", once):
        main(["baseline", *BASELINE.split(), "--out", "half"])


def _images() -> None:
    """The same few images as .npz and as a folder of pictures."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 10
    np.savez("images.npz", images=images, labels=labels)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = Path("pets", f"class{label}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")


def _command(line: str) -> None:
    if status := main(line.split()):
        raise RuntimeError(f"hypergen {line}: status {status}")


def copy_named(corpus: Path, line: str) -> None:
    """Copies what a line names into the working directory; all, if it names that directory."""
    names = [each.name for each in corpus.iterdir()]
    if not re.search(r"(?<![\w./])\.(?![\w./])", line):
        names = [name for name in names if name.partition(".")[0] in line]
    copy(corpus, names)


def copy(corpus: Path, names: Iterable[str]) -> None:
    """Copies files and folders into the working directory.

    Large ones become links, which nobody writes into.
    """

    def copied(source: str, target: str) -> None:
        (os.link if os.path.getsize(source) > 10**6 else shutil.copy2)(source, target)

    for name in names:
        source, target = corpus / name, Path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=copied, dirs_exist_ok=True)
        elif not target.exists():
            copied(str(source), str(target))


class _TrialHere:
    """The process of a sweep's trial, run in this one: it need not import PyTorch."""

    pid = 0

    def __init__(self, words: list[str], stdout: Any, **_: Any):
        log = io.TextIOWrapper(stdout, write_through=True)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            self.returncode = main(words[words.index("train") :])
        log.detach()
        if self.returncode == 128 + signal.SIGINT:  # a terminal's Ctrl-C reaches the sweep as well
            raise KeyboardInterrupt

    def poll(self) -> int:
        return self.returncode

    def send_signal(self, number: int) -> None:
        pass

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Inside, there is no network, the standard attacks are brief, and trials run in here."""
    brief = partial(attacks.standard, steps=2, queries=5)
    adaptive = partial(attacks.adaptive, steps=2, queries=5, samples=2, schedule=((1, 4),))

    processes = mock.Mock(wraps=subprocess, Popen=_TrialHere)

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError(101, "Network is unreachable")

    with contextlib.ExitStack() as stack:
        for patch in (
            mock.patch.dict(attacks.ATTACKS, standard=brief, adaptive=adaptive),
            mock.patch.object(attacks, "standard", brief),
            mock.patch.object(trials, "subprocess", processes),
            mock.patch.object(socket, "getaddrinfo", unreachable),
            mock.patch.dict(os.environ, {"HYPERGEN_DATA": "data"}),
        ):
            stack.enter_context(patch)
        os.environ.pop("HYPERGEN_PLUGINS", None)
        yield


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Afterwards nothing that was registered inside, or loaded as a plugin, is there."""
    with contextlib.ExitStack() as stack:
        for registry in REGISTRIES.values():
            stack.enter_context(mock.patch.dict(registry._entries))
            stack.enter_context(mock.patch.dict(registry._origins))
        stack.enter_context(mock.patch.dict(LOADED))
        yield
