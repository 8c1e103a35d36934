"""Own images, networks and bases through every command, without touching the package.

    python -m scripts.studies.own [--quick]

Makes 600 pictures of three shapes as PNG files and an npz of bars in 17 directions, writes a
network of a stranger's (`USER_CODE`) and trains it in plain PyTorch to a `.pt` file, and runs
`train`, `sample`, `evaluate`, `transfer`, `baseline`, `sweep` and `export` on them as a user would.
What each command took and what came out stands in scripts/results/own.json.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from hypergen.data import load
from hypergen.errors import RunError
from hypergen.plugins import load_plugin
from hypergen.storage.atomic import write_json
from scripts.common import run
from targets import build

RESULT = Path("scripts/results/own.json")
SHAPES = "circle", "square", "triangle"
DIRECTIONS = 17
USER_CODE = '''"""My network."""

import hypergen
from torch import nn
from torch.nn import functional as F


@hypergen.register_target("my-net")
class MyNet(nn.Module):
    """A convolution and two dense layers that share a matrix."""

    def __init__(self, num_classes, input_shape):
        super().__init__()
        channels, height, width = input_shape
        self.first = nn.Conv2d(channels, 16, 5, stride=2, padding=2)
        self.second = nn.Conv2d(16, 32, 5, stride=2, padding=2)
        self.drop = nn.Dropout2d(0.1)
        self.dense = nn.Linear(32 * -(-height // 4) * -(-width // 4), 64)
        self.one = nn.Linear(64, 64)
        self.two = nn.Linear(64, 64)
        self.two.weight = self.one.weight
        self.last = nn.Linear(64, num_classes)

    def forward(self, images):
        x = self.drop(F.relu(self.second(F.relu(self.first(images)))))
        x = F.relu(self.dense(x.view(x.size(0), -1)))
        return self.last(F.relu(self.two(F.relu(self.one(x)))))
'''


@dataclass(frozen=True)
class OwnConfig:
    """How much is done."""

    quick: bool = False
    """a few steps and images, to see that all of it runs"""
    out: Path = RESULT
    """where the figures go"""


def draw_pictures(folder: Path, count: int, size: int) -> None:
    """Writes `count` PNGs a class: a shape of any colour, place and size on a noisy ground."""
    rng = np.random.default_rng(0)
    for name in SHAPES:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture = Image.fromarray(rng.integers(0, 80, (size, size, 3), dtype=np.uint8))
            radius = int(rng.integers(3 * size // 16, 11 * size // 32))
            x, y = (int(v) for v in rng.integers(radius, size - radius, 2))
            colour = tuple(int(v) for v in rng.integers(120, 256, 3))
            draw = ImageDraw.Draw(picture)
            box = (x - radius, y - radius, x + radius, y + radius)
            if name == "circle":
                draw.ellipse(box, fill=colour)
            elif name == "square":
                draw.rectangle(box, fill=colour)
            else:
                corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
                draw.polygon(corners, fill=colour)
            picture.save(folder / name / f"{index:03d}.png")


def draw_bars(path: Path, count: int, size: int) -> None:
    """Writes an npz of `count` grey images a class: noisy bars in 17 directions."""
    rng = np.random.default_rng(0)
    grid = np.arange(size) - (size - 1) / 2
    images, labels = [], []
    for label in range(DIRECTIONS):
        angle = math.pi * label / DIRECTIONS
        for _ in range(count):
            shift = rng.uniform(-2, 2)
            distance = np.abs(np.sin(angle) * grid[:, None] - np.cos(angle) * grid[None] + shift)
            image = np.clip(1.5 - distance / 1.5, 0, 1) + rng.normal(0, 0.05, (size, size))
            images.append(np.clip(255 * image, 0, 255).astype(np.uint8))
            labels.append(label)
    np.savez(path, images=np.stack(images), labels=np.array(labels))


def train_base(path: Path, dataset_name: str, epochs: int) -> None:
    """Trains the user's network in plain PyTorch and saves its state_dict."""
    dataset = load(dataset_name)
    torch.manual_seed(0)
    network = build("my-net", "relu", dataset.num_classes, dataset.input_shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for images, labels in dataset.train.batches(32, rng):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
    torch.save(network.state_dict(), path)


def commands(folder: Path, quick: bool) -> list[tuple[str, list[str]]]:
    """What a user types, by name, in order; everything is in `folder`."""
    pets, bars = f"folder:{folder / 'pictures'}", f"npz:{folder / 'bars.npz'}"
    mine = ["--plugin", str(folder / "my_net.py")]
    size = ["--steps", "1000", "--samples", "16"]
    if quick:
        size = ["--steps", "5", "--samples", "3", "--images", "20", "--no-baseline"]
    judged = ["--sra-samples", "2", "--sra-images", "6" if quick else "100"]
    images = "6" if quick else "100"
    run_folder, bars_folder = str(folder / "run"), str(folder / "run-bars")
    sweep = ["--trials", "2", "--samples", "2", "--sra-samples", "0", "--steps"]
    mine_on = ["--target", "my-net", *mine, "--dataset"]
    first = str(folder / "run" / "samples" / "sample-0000.safetensors")
    return [
        (
            "train on pictures from a .pt base",
            ["train", *mine_on, pets, "--epsilon", "8/255", "--base", str(folder / "base.pt")]
            + [*size, *judged, "--out", run_folder],
        ),
        (
            "train on bars",
            ["train", "--target", f"{folder / 'my_net.py'}:MyNet", "--dataset", bars]
            + ["--epsilon", "0.05", *size, *judged, "--out", bars_folder],
        ),
        (
            "sample and keep",
            ["sample", run_folder, *mine, "--count", "6", "--keep", "2", "--images", images],
        ),
        (
            "evaluate with checks",
            ["evaluate", first, *mine, "--suite", "standard", "--checks", "--images", images],
        ),
        ("transfer", ["transfer", run_folder, *mine, "--images", images]),
        (
            "baseline",
            ["baseline", *mine_on, bars, "--epsilon", "0.05", "--epochs", "1" if quick else "20"]
            + ["--out", str(folder / "baseline")],
        ),
        (
            "sweep",
            ["sweep", *mine_on, bars, "--epsilon", "0.05", *sweep, "5" if quick else "300"]
            + ["--out", str(folder / "sweep")],
        ),
        ("export", ["export", first, *mine, "--format", "pt2"]),
    ]


def study(config: OwnConfig, execute: Callable[[list[str]], int | None]) -> dict[str, Any]:
    """Runs everything in a temporary folder; what each command took, and the runs' summaries.

    execute: runs the words of a command; its exit status.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my_net.py").write_text(USER_CODE)
        draw_pictures(folder / "pictures", *((30, 16) if config.quick else (200, 32)))
        draw_bars(folder / "bars.npz", *((10, 12) if config.quick else (60, 20)))
        load_plugin(str(folder / "my_net.py"))
        train_base(folder / "base.pt", f"folder:{folder / 'pictures'}", 1 if config.quick else 20)
        rows = [once(title, words, execute) for title, words in commands(folder, config.quick)]
        summaries = {
            data: json.loads((folder / run_name / "results.json").read_text())["summary"]
            for data, run_name in (("pictures", "run"), ("bars", "run-bars"))
        }
    lines = len([line for line in USER_CODE.splitlines() if line.strip()])
    return {"lines_of_user_code": lines, "commands": rows, "summaries": summaries}


def once(
    title: str, words: list[str], execute: Callable[[list[str]], int | None]
) -> dict[str, Any]:
    """What a command took; `RunError` if it fails."""
    start = time.monotonic()
    status = execute(words)
    if status:
        raise RunError(f"{title}: status {status}")
    return {"title": title, "seconds": round(time.monotonic() - start, 1)}


def in_process_of_its_own(words: list[str]) -> int:
    """Runs a command as a user does; its exit status."""
    print("hypergen", *words, flush=True)
    return subprocess.run([sys.executable, "-m", "hypergen", *words]).returncode


def main(config: OwnConfig) -> None:
    """Runs the study and writes its figures."""
    write_json(config.out, study(config, in_process_of_its_own))


if __name__ == "__main__":
    run(main, OwnConfig, __doc__)
