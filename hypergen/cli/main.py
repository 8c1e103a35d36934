"""The command line: finds the command, runs it, and says errors in one line."""

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, MutableMapping
from types import ModuleType
from typing import Any

from hypergen.budget import limited_memory
from hypergen.cli.output import fill_closed_descriptors, forgiving_output
from hypergen.cli.signals import Interrupted, exit_on_signals, interruptible
from hypergen.cli.wording import in_options
from hypergen.errors import InputError, RunError, is_out_of_memory
from hypergen.runtime.ranks import hushed, joined, launched, outlives_first, speaks

COMMANDS = {
    "train": "Train a generator of network weights, then measure its samples.",
    "sample": "Draw networks from a trained generator; rank, verify and write them.",
    "search": "Search a generator's latent space for its best networks in all measures.",
    "evaluate": "Measure accuracy and robustness of networks on test images.",
    "compare": "Set runs, sweeps and networks side by side, on the same images.",
    "analyze": "Look at the geometry of networks: regions, sensitivity, curvature, ...",
    "report": "Write a run, a sweep or several side by side as a page to read.",
    "transfer": "Try on every network what was made to fool each other one.",
    "baseline": "Train one network directly: ordinarily, or against attacks.",
    "sweep": "Train many generators, their settings chosen by Optuna.",
    "board": "Judge a small network, and add it to a table of such.",
    "card": "Write a network as a folder for the Hugging Face hub, with a model card.",
    "export": "Write networks as ONNX, PyTorch programs or plain weights.",
    "explore": "Look at a trained generator in a browser: choose, attack, keep networks.",
    "list": "List what can be named: targets, activations, attacks, data sets, ...",
}
"""What each command does; its options stand in the module of its name beside this one."""
TOGETHER = "train", "sample", "evaluate", "compare", "analyze", "report", "transfer"
"""The commands that several processes started by torchrun share."""


def main(arguments: list[str] | None = None, refused_status: int = 1) -> int:
    """Entry point: 0 done, 1 a failed run, 2 bad input, 128 + N after signal N: 130 after Ctrl-C.

    arguments: by default those of the process, which then is the command's own.
    refused_status: where the system refuses a file: a sweep tells that from other failures.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        exit_on_signals()  # first of all: imports take seconds
        fill_closed_descriptors()
        yield_cores(os.environ)
    return exit_status(lambda: run_command(arguments), refused_status)


def yield_cores(environ: MutableMapping[str, str]) -> None:
    """Has OpenMP's idle threads leave their cores within microseconds, unless told otherwise.

    By default they keep them busy for milliseconds, in case there is more to do, while those that
    attack one network a core wait: on two cores a training step then takes 1.4 times as long. The
    library reads this when it is loaded, with PyTorch.
    """
    if "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", "10000")


def exit_status(action: Callable[[], int | None], refused_status: int = 1) -> int:
    """Runs a command; what went wrong, and warnings, are said in one line. As `main` returns it."""
    warnings.formatwarning = lambda message, *_: f"hypergen: {in_options(str(message))}\n"
    with forgiving_output(), hushed():
        return _status(action, refused_status)


def _status(action: Callable[[], int | None], refused_status: int) -> int:
    try:
        return action() or 0
    except RunError as error:
        return _tell(error, 1)
    except InputError as error:
        return _tell(error, 2)
    except KeyboardInterrupt as interrupt:
        # CPython ends by SIGINT once code in a string was interrupted, handled or not, unless
        # other code in a string has run since.
        exec("")
        number = interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT
        return _tell(f"interrupted{interrupt}", 128 + number)
    except OSError as error:  # no space, no permission
        return _tell(error, refused_status)
    except errors_below() as error:
        return _tell(error, 2)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return _tell("there is not enough memory for this", 1)
        raise


def errors_below() -> tuple[type[Exception], ...]:
    """The user errors of the packages below, imported only when something has gone wrong."""
    from attacks import AttackError
    from targets import TargetError

    return AttackError, TargetError


def _tell(error: object, status: int) -> int:
    if speaks() or (status < 128 and outlives_first()):
        print(f"hypergen: {in_options(str(error))}", file=sys.stderr)
    return status


def run_command(arguments: list[str]) -> int | None:
    """Finds the command, parses its arguments and runs it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(version())
        return 0
    if arguments[0] == "--print-completion":
        from hypergen.cli.completion import completion

        print(completion(COMMANDS, arguments[1:]))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        from hypergen.registry import nearest

        known = ", ".join(COMMANDS)
        raise InputError(f'unknown command "{name}"{nearest(name, COMMANDS)}; known: {known}')
    from hypergen.cli.early import Early  # here and below: slow to import
    from hypergen.plugins import load_named
    from hypergen.runtime.sessions import typed

    load_named(Early.of(rest).plugins)
    command = importlib.import_module(f"hypergen.cli.{name}")
    settings, own = command.COMMAND.parse(name, rest)
    budget = limited_memory(own.machine.memory)
    with budget, interruptible(), typed(["hypergen", *arguments]):
        if launched().count > 1:
            return run_together(command, name, settings, own)
        return command.run(settings, own)


def run_together(command: ModuleType, name: str, settings: Any, own: Any) -> int | None:
    """Runs the command on the ranks that torchrun has started: the first leads, the others help."""
    from hypergen.runtime import crew

    if name not in TOGETHER:
        raise InputError(f"{name} is one process: torchrun is for {', '.join(TOGETHER)}")
    with joined() as place:
        if place.rank:
            return getattr(command, "assist", lambda *_: crew.serve())(settings, own)
        try:
            return command.run(settings, own)
        finally:
            crew.dismiss()


def version() -> str:
    """What `hypergen --version` prints: what a report of a fault should say."""
    import torch  # here, for it is slow to import

    from hypergen import __version__
    from hypergen.runtime.device import choose_device
    from hypergen.runtime.precision import cpu_has_bf16

    device = choose_device("auto")
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = "cpu with bf16" if cpu_has_bf16() else "cpu"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"hypergen {__version__}, Python {python}, PyTorch {torch.__version__}, {name}"


def usage() -> str:
    """What `hypergen --help` prints."""
    lines = ["usage: hypergen COMMAND [options]   (hypergen COMMAND --help lists them)", ""]
    lines += [f"  {name:<10}{doc}" for name, doc in COMMANDS.items()]
    lines += ["", "  --version", "  --print-completion {bash,zsh,fish}"]
    return "\n".join(lines)
