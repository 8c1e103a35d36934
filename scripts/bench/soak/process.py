"""Commands in processes that are forked off this one, which has loaded all they need."""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from PIL import Image

from hypergen.experiments import run as runs
from hypergen.experiments import trials
from hypergen.experiments.competitors import direct_recipes
from hypergen.runtime.tracker import Tracker
from hypergen.training.loop import train
from scripts.bench.fuzz import scene

LIMIT = 900.0
"""Seconds after which a command is taken to hang."""


class Child:
    """A process that runs a module as `python -m` does, in a folder.

    Args:
        words: the module and its arguments.
        log: the file that it prints to.
        begin: is called in it first.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        log: Any,
        begin: Callable[[], object] = lambda: None,
    ):
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                os.chdir(folder)
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
                sys.stdout, sys.stderr = (os.fdopen(stream, "w", 1) for stream in (1, 2))
                sys.argv = list(words)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored behind nohup
                begin()
                status = _status_of(words[0])
            finally:
                os._exit(status)

    def poll(self) -> int | None:
        """The status, negative after a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The status in the end."""
        end = time.monotonic() + (LIMIT if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("hypergen", LIMIT)
            time.sleep(0.003)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)


def _status_of(module: str) -> int:
    """The status that `python -m` would end with, its threads waited for."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=False)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


class Trial(Child):
    """The process of a sweep's trial, as `subprocess.Popen` makes it."""

    def __init__(self, words: list[str], stdout: Any, pass_fds: Sequence[int], **_: Any):
        def begin() -> None:
            os.setsid()
            first = 3
            for handle in sorted(pass_fds):
                os.closerange(first, handle)
                first = handle + 1
            os.closerange(first, 200)

        super().__init__(words[2:], Path.cwd(), stdout, begin)


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Inside, trials are forked, attacks, baselines and pictures brief, checkpoints frequent."""

    def brief(folder: Path, config: Any) -> dict[Path, Any]:
        made = direct_recipes(folder, config)
        return {path: each.replace(epochs=2) for path, each in [*made.items()][:2]}

    def show_check(tracker: Tracker, step: int, *_: Any) -> None:
        # To draw a real one takes longer than a step.
        tracker.image(step, "examples", Image.new("RGB", (8, 8)))

    with scene.prepared(), contextlib.ExitStack() as stack:
        processes = SimpleNamespace(**vars(subprocess) | {"Popen": Trial})
        for patch in (
            mock.patch.object(trials, "subprocess", processes),
            mock.patch.object(runs, "train", partial(train, checkpoint_seconds=0.0)),
            mock.patch.object(runs, "direct_recipes", brief),
            mock.patch.object(runs, "show_check", show_check),
        ):
            stack.enter_context(patch)
        yield
