"""One case: what is tried, how it ended, and what is wrong with that."""

import contextlib
import io
import math
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks import AttackError
from hypergen.cli.main import main
from hypergen.errors import InputError, RunError
from scripts.bench.fuzz import state
from targets import TargetError

GIB = 2**30
MEMORY = 2 * GIB
"""How much more than before a case may take."""
LARGE = re.compile(r"\b(train|baseline|sweep).*\b(resnet18|alexnet)\b")
"""Trainings of networks that take more, even in a plain loop in PyTorch."""
PACKAGES = ("hypergen", "targets", "attacks")
OWN_ERRORS = (InputError, RunError, AttackError, TargetError)
SIGNATURE = re.compile(
    r"unexpected keyword argument|missing \d+ required|positional arguments? but|multiple values"
)
OBSCURE = re.compile(
    r"'NoneType' object|has no attribute|not subscriptable|index out of range|object is not|"
    r"unhashable|not supported between|must be (str|real)"
)
"""What Python says of a mistake in a program, and no user of it understands."""
SHARES = {"accuracy", "robustness", "pgd", "sra", "union", "robust_accuracy", "interval"}


class WrongFigureError(AssertionError):
    """A figure that cannot be."""


@dataclass
class Outcome:
    """How a case ended: a command by its status, a line of Python by its error, if any."""

    status: int | None = None
    out: str = ""
    err: str = ""
    error: BaseException | None = None


@dataclass(frozen=True)
class Case:
    """Something to try in the working directory; `repeat` is the line that does so."""

    name: str
    repeat: str
    action: Callable[[], Outcome]
    check: Callable[[Outcome], list[str]] = field(default=lambda outcome: [])


@dataclass(frozen=True)
class Fault:
    """What is wrong with a case: of which kind, in one line, and where in the code."""

    case: str
    kind: str
    detail: str
    where: str
    repeat: str
    trace: str = ""


def command(words: list[str]) -> Outcome:
    """How a command line of hypergen ends, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    outcome = Outcome()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            outcome.status = main(words)
        except SystemExit as stop:  # --help
            outcome.status = stop.code if isinstance(stop.code, int) else 0
        except BaseException as error:
            outcome.error = error
    outcome.out, outcome.err = out.getvalue(), err.getvalue()
    return outcome


def python(line: str, names: dict[str, Any]) -> Outcome:
    """How a line of Python ends; what it prints is kept. An error without us is the line's own."""
    out, err = io.StringIO(), io.StringIO()
    outcome = Outcome()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(compile(line, "<case>", "exec"), names)
        except (KeyboardInterrupt, WrongFigureError) as error:
            outcome.error = error
        except BaseException as error:
            outcome.error = error if innermost(error) else None
    outcome.out, outcome.err = out.getvalue(), err.getvalue()
    return outcome


def judge(case: Case, seconds: float = 10.0) -> list[Fault]:
    """Tries the case and returns what is wrong with it."""
    here = Path.cwd()
    before, files, memory = state.snapshot(), state.tree(here), state.peak_memory()
    outcome = Outcome(error=KeyboardInterrupt())
    with contextlib.suppress(KeyboardInterrupt), state.interrupted_after(seconds):
        outcome = case.action()
    found = [*_told(outcome), *case.check(outcome)]
    found += [f"state: {name} is left moved" for name in state.put_back(before)]
    after = state.tree(here)
    found += [f"leftover: {path}" for path in state.leftovers(files, after)]
    if outcome.status == 2 and (changed := state.changes(files, after)):
        found.append(f"written: status 2, and yet changed: {', '.join(changed[:4])}")
    taken = state.peak_memory() - memory
    if taken > MEMORY and not LARGE.search(case.repeat):
        found.append(f"memory: {taken / GIB:.1f} GiB more")
    return [_fault(case, text, outcome.error) for text in found]


def _fault(case: Case, text: str, error: BaseException | None) -> Fault:
    kind, _, detail = text.partition(": ")
    trace = "" if error is None else "".join(traceback.format_exception(error))[-4000:]
    where = "" if error is None else innermost(error)
    return Fault(case.name, kind, detail[:500], where, case.repeat, trace)


def innermost(error: BaseException) -> str:
    """The innermost line of ours that an error came through, as "targets/layout.py:33"."""
    lines = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        parts = Path(frame.f_code.co_filename).parts
        starts = [i for i, part in enumerate(parts) if part in PACKAGES]
        if starts and "site-packages" not in parts:
            lines.append(f"{'/'.join(parts[starts[-1] :])}:{line}")
    return lines[-1] if lines else ""


def _told(outcome: Outcome) -> Iterator[str]:
    """What is wrong with how it ended, and with what it said."""
    if outcome.error is not None:
        yield from _error(outcome.error)
        return
    if "Traceback (most recent call last)" in outcome.err + outcome.out:
        yield f"traceback: printed: {outcome.err.strip().splitlines()[-1]}"
    if outcome.status is None:
        return
    if outcome.status not in (0, 1, 2) and not 128 < outcome.status < 160:
        yield f"status: {outcome.status}"
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if line.strip()]
    alien = [line for line in lines if not line.startswith("hypergen: ") and "% of" not in line]
    if alien:
        yield f"message: not one line of ours: {alien[0][:200]}"
    if outcome.status and not lines:
        yield f"message: status {outcome.status} and no word"
    for line in lines:
        if OBSCURE.search(line):
            yield f"message: obscure: {line[:300]}"
        if len(line) > 2000:
            yield f"message: {len(line)} characters long: {line[:60]}"


def _error(error: BaseException) -> Iterator[str]:
    if isinstance(error, KeyboardInterrupt):
        return
    text = " ".join(str(error).split())
    signature = isinstance(error, TypeError) and SIGNATURE.search(text)
    if isinstance(error, WrongFigureError):
        yield f"figure: {text}"
    elif isinstance(error, OWN_ERRORS):
        if "\n" in str(error):
            yield f"message: several lines: {text[:300]}"
        if OBSCURE.search(text):
            yield f"message: obscure: {text[:300]}"
    elif not (signature or _of_the_model(error)):
        yield f"traceback: {type(error).__name__}: {text[:300]}"


def _of_the_model(error: BaseException) -> bool:
    """Whether it is the network's own, which a caller gets as it is; memory ran out, say."""
    if isinstance(error, MemoryError) or "not enough memory" in str(error):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "own_forward" for frame, _ in frames)


def wrong_figures(tree: Any, where: str = "") -> list[str]:
    """Shares beyond [0, 1], and SRA above the robustness to PGD on the same images."""
    found = []
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name in SHARES:
                found += [f"figure: {where}{name} is {v}" for v in _numbers(value) if not _fits(v)]
            found += wrong_figures(value, f"{where}{name}.")
        sra, pgd = tree.get("sra"), tree.get("pgd")
        if isinstance(sra, float) and isinstance(pgd, float) and sra > pgd + 1e-9:
            found.append(f"figure: {where}sra {sra} is above pgd {pgd}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            found += wrong_figures(value, f"{where}{index}.")
    return found


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):  # of several networks
        value = [value[name] for name in ("mean", "min", "max") if name in value]
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, int | float)]


def _fits(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1
