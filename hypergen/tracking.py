"""What a run says while it goes on: metrics.jsonl, TensorBoard events, a bar or plain lines."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from hypergen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hypergen.config import TrainConfig

PLAIN_LINE_SECONDS = 15.0


class Bar:
    """Progress on standard error: a bar on a terminal, a plain line now and then elsewhere.

    Several threads may advance it.
    """

    def __init__(self, label: str, total: int, done: int = 0):
        self.label, self.total, self.done = label, total, done
        self.figures = ""
        self.started = self.printed = time.monotonic()
        self.first = done
        self._lock = threading.Lock()
        self.bar = (
            tqdm(total=total, initial=done, desc=label, leave=False, dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def advance(self, count: int = 1, figures: str = "") -> None:
        """`count` more are done; `figures` are the numbers that matter now."""
        with self._lock:
            self.done += count
            self.figures = figures or self.figures
            self._show(count)

    def _show(self, count: int) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(self.figures, refresh=False)
            self.bar.update(count)
        elif time.monotonic() - self.printed >= PLAIN_LINE_SECONDS:
            self.printed = time.monotonic()
            rate = (self.done - self.first) / (self.printed - self.started)
            left = (self.total - self.done) / rate if rate else float("inf")
            line = f"{self.label}: {self.done}/{self.total}, {rate:.3g}/s, {left:.0f} s left"
            print(f"{line}, {self.figures}" if self.figures else line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.close()


class Tracker:
    """The metrics of one run: a line of JSON and TensorBoard scalars a step.

    Lines and events after `step`, which a killed run had written beyond its last checkpoint, are
    dropped: a resumed run writes them again.
    """

    def __init__(self, folder: Path, config: "TrainConfig", step: int = 0):
        # Here, for it takes a second that other commands need not spend.
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut short
                    break
                if record["step"] < step:
                    kept.append(line + "\n")
        write_text(self.path, "".join(kept))
        self.writer = SummaryWriter(folder, purge_step=step)
        self.writer.add_text(
            "config", "\n".join(f"    {k}: {v}" for k, v in asdict(config).items()), 0
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def figure(self, step: int, name: str, figure: "Figure") -> None:
        """A picture for TensorBoard."""
        self.writer.add_figure(name, figure, step)

    def close(self) -> None:
        """Flushes everything."""
        self.writer.close()


def read_json(path: Path) -> Any:
    """What a file of JSON holds; `InputError` for a damaged one."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # no JSON, no text
        raise InputError(f"{path} is damaged ({error}); remove it to have it made anew") from None


def write_text(path: Path, text: str) -> None:
    """Writes a small file at once or not at all."""
    with replacing(path) as part:
        part.write_bytes(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a file to write to, which becomes `path` at once, or not at all if the body fails.

    Synced and then renamed: `path` is never seen half-written, not even after a power cut.
    """
    path = path.resolve()  # where a link points to: it is to stay one
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    # A rename is only safe on disk after both the file and its folder are.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
