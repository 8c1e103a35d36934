"""Tries some cases one after the other in this process."""

import contextlib
import importlib
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict
from pathlib import Path
from random import Random

from scripts.bench.fuzz import api, commands, files, scene
from scripts.bench.fuzz.case import GIB, Case, Fault, judge

LATE = (
    "matplotlib.figure",
    "onnxscript",
    "optuna",
    "scipy.stats",
    "sklearn.ensemble",
    "torch._dynamo",
    "torch._inductor.utils",
    "torch.onnx",
    "torch.utils.tensorboard",
    "torchattacks",
)
PARTS: dict[str, Callable[[Random, str, Path], Case]] = {
    "api": api.draw,
    "files": files.draw,
    "commands": commands.draw,
}


def try_cases(
    part: str,
    seed: int,
    numbers: Iterable[int],
    corpus: Path,
    begun: Callable[[int, Case], object] = lambda number, case: None,
    seconds: float = 10.0,
    wanted: Callable[[Case], bool] = lambda case: True,
) -> Generator[tuple[int, list[Fault]], None, None]:
    """Yields (number, faults) of every case; each is drawn by its seed and number alone.

    begun: told of a case before it is tried; seconds: after which it is interrupted; wanted: which
    cases are tried at all.
    """
    with scene.prepared():
        for number in numbers:
            folder = Path(tempfile.mkdtemp(prefix="fuzz"))
            name = f"{part}:{seed}:{number}"
            try:
                with contextlib.chdir(folder), scene.isolated():
                    case = PARTS[part](Random(name), name, corpus)
                    if wanted(case):
                        begun(number, case)
                        yield number, judge(case, seconds)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def warm_up() -> None:
    """Imports what hypergen imports late: others' imports set environment and warning filters."""
    for name in LATE:
        importlib.import_module(name)


def limit_memory(more: int) -> None:
    """Lets this process take `more` bytes of address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(corpus: Path, log: Path | None, part: str, seed: int, first: int, count: int) -> None:
    """Tries cases `first`, `first` + 1, ...; into `log` goes a line before each and one after."""
    if not corpus.exists():
        with contextlib.redirect_stdout(None):
            scene.build(corpus)
    warm_up()
    limit_memory(3 * GIB)
    with open("/dev/null" if log is None else log, "w", buffering=1) as lines:

        def begun(number: int, case: Case) -> None:
            if log is None:
                print(case.repeat)
            lines.write(json.dumps({"number": number, "repeat": case.repeat}) + "\n")

        numbers = range(first, first + count)
        for number, faults in try_cases(part, seed, numbers, corpus, begun):
            found = {"number": number, "faults": [asdict(fault) for fault in faults]}
            lines.write(json.dumps(found) + "\n")
            for fault in faults:
                print(f"{fault.case}: {fault.kind}: {fault.detail} [{fault.where}]")
                print(f"    {ascii(fault.repeat)[1:-1][:400]}", flush=True)
                if log is None:
                    print(fault.trace)


if __name__ == "__main__":
    place, log, part, *numbers = sys.argv[1:]
    main(Path(place), None if log == "-" else Path(log), part, *map(int, numbers))
