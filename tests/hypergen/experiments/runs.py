"""What the tests of runs look at, and how they stop one."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergen.experiments import run as experiment
from hypergen.runtime.progress import Progress
from hypergen.runtime.sessions import TIMES
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.training.loop import train


def state(folder: Path) -> Any:
    return checkpoint.load(folder / CHECKPOINT)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        keys = [key for key in a if key not in TIMES]
        return list(a) == list(b) and all(same(a[key], b[key]) for key in keys)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def timeless(result: dict[str, Any]) -> str:
    """Results, as JSON, as any repetition of the same work has them."""
    return json.dumps({name: value for name, value in result.items() if name not in TIMES})


def lines(folder: Path) -> list[str]:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().splitlines() if metrics.exists() else []


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in lines(folder)]


class Interrupting(Progress):
    """A training that is interrupted after a step of that number."""

    def __init__(self, after: int, error: BaseException):
        self.left, self.error = after, error

    def advance(self, count: int = 1, metrics: str = "") -> None:
        self.left -= count
        if self.left <= 0:
            raise self.error


def saving_always(monkeypatch) -> None:
    """Checkpoints after every step."""

    def save_always(trainer, save, on_step):
        train(trainer, save, on_step, checkpoint_seconds=-1.0)

    monkeypatch.setattr(experiment, "train", save_always)
