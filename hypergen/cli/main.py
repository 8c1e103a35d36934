"""The command line: finds the command, runs it, and says errors in one line."""

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable

from hypergen.cli.early import Early
from hypergen.cli.wording import in_options
from hypergen.errors import InputError, RunError

COMMANDS = {
    "train": "Train a generator of network weights, then measure its samples.",
    "sample": "Draw networks from a trained generator; rank, verify and write them.",
    "evaluate": "Measure accuracy and robustness of networks on test images.",
    "transfer": "Try on every network what was made to fool each other one.",
    "baseline": "Train one network directly: ordinarily, by FBF or by PGD.",
    "sweep": "Train many generators, their settings chosen by Optuna.",
    "export": "Write networks as ONNX, PyTorch programs or plain weights.",
    "list": "List what can be named: targets, activations, attacks, data sets, ...",
}
"""What each command does; its options stand in the module of its name beside this one."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point: 0 done, 1 a failed run, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: run_command(arguments))


def exit_status(action: Callable[[], int | None]) -> int:
    """Runs a command; what went wrong, and warnings, are said in one line. As `main` returns it."""
    warnings.formatwarning = lambda message, *_: f"hypergen: {in_options(str(message))}\n"
    # A name that the terminal cannot show costs no results.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return action() or 0
    except RunError as error:
        return _tell(error, 1)
    except InputError as error:
        return _tell(error, 2)
    except KeyboardInterrupt as interrupt:
        return _tell(f"interrupted{interrupt}", 130)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no space, no permission
        return _tell(error, 1)
    except MemoryError:
        return _tell("there is not enough memory for this", 1)
    except errors_below() as error:
        return _tell(error, 2)


def errors_below() -> tuple[type[Exception], ...]:
    """The user errors of the packages below, imported only when something has gone wrong."""
    from attacks import AttackError
    from targets import TargetError

    return AttackError, TargetError


def _tell(error: object, status: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        print(f"hypergen: {in_options(str(error))}", file=sys.stderr)
    return status


def run_command(arguments: list[str]) -> int | None:
    """Finds the command, parses its arguments and runs it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from hypergen import __version__

        print(f"hypergen {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        from hypergen.registry import nearest

        known = ", ".join(COMMANDS)
        raise InputError(f'unknown command "{name}"{nearest(name, COMMANDS)}; known: {known}')
    from hypergen.plugins import load_named  # here and below: slow to import

    load_named(Early.of(rest).plugins)
    command = importlib.import_module(f"hypergen.cli.{name}")
    return command.run(*command.COMMAND.parse(name, rest))


def usage() -> str:
    """What `hypergen --help` prints."""
    lines = ["usage: hypergen COMMAND [options]   (hypergen COMMAND --help lists them)", ""]
    return "\n".join(lines + [f"  {name:<10}{doc}" for name, doc in COMMANDS.items()])
