import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

# Those that are ignored in the background of a shell, and behind nohup: the tests of signals, and
# what they start, must hear them.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(
    scope="session", params=["cpu", *["cuda"] * torch.cuda.is_available()], ids=lambda name: name
)
def device(request) -> torch.device:
    """The CPU and, where there is one, the GPU, with all bits of float32."""
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(request.param)


@pytest.fixture(scope="session")
def dtype(device) -> torch.dtype:
    """For what must be equal: on a GPU what float32 rounds to depends on the batch's size."""
    return torch.float32 if device.type == "cpu" else torch.float64


INTERPRETER = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            exec(json.loads(line), {})
        error = ""
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([shown.getvalue(), error]), flush=True)
"""


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Callable[[str], str]]:
    """Runs Python code in another process and returns what it prints; pytest is not loaded there.

    There is one such process for all tests, which imports PyTorch once: that takes seconds.
    """
    command = [sys.executable, "-c", INTERPRETER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": Path(__file__).parents[1]}
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, text=True, **pipes))
        stack.callback(process.stdin.close)  # which ends it

        def run(code: str) -> str:
            print(json.dumps(code), file=process.stdin, flush=True)
            shown, error = json.loads(process.stdout.readline())
            assert not error, error
            return shown

        yield run
